#include "runtime/cli/sample_text.h"

namespace stoker {

std::string_view SampleText() {
  return R"TEXT(The harbour was quiet in the early morning. Two fishing boats had come in before the
light, and their crews were sorting the catch on the stone steps, talking in low voices and throwing
the smallest fish back into the water. A woman from the market walked along the wall with a basket
on her arm. She stopped at each boat, asked the price, shook her head, and went on. She had been
buying here for thirty years, and everyone knew that she would come back to the first boat in the
end and pay what she had offered at the beginning.

Above the harbour the road climbs past the old customs house, where the museum is today. The rooms
on the ground floor show how ropes were made: a long hall, a cart on rails, and three men walking
backwards all day. On the first floor there are maps. The oldest was drawn in 1687 and has a sea
monster where the lighthouse stands now. Children like the monster best. Their parents usually
stay longer in front of the ships, which a retired captain built from memory over eleven winters.

How does a steam engine work? Water is heated in a boiler until it turns into steam. Steam needs
about 1,600 times as much space as the water it came from, so it pushes hard against whatever
holds it in. Let it into a cylinder and it moves the piston; let it out again on the other side
and the piston can return. A valve decides which side gets the steam, and a wheel turns the
movement back and forth into a movement round and round. Early engines wasted more than 95 % of
their heat. James Watt noticed that the cylinder was heated and cooled at every stroke, and
moved the cooling into a separate vessel. That simple change saved three quarters of the coal.

The stoker was the one who kept the fire. It sounds like plain work, and it was hard work, but it
was not simple: a good stoker knew when the next hill was coming and had the steam ready before
the driver asked for it. Too little coal, and the train slowed on the climb. Too much, and the
safety valve opened and the extra heat was lost. He read the line ahead, the colour of the flame,
the sound of the wheels. The bunker held far more coal than the firebox, and only what was in the
firebox gave any power at that moment. The skill was in bringing the right shovel at the right time.

Some numbers for the traveller. The ferry leaves at 7:40, 10:15, 13:00 and 17:30 from pier 4. The
crossing takes 55 minutes when the weather is fair. A single ticket costs 12.50, a return ticket
21.00, and children under 6 travel free. Bicycles are carried for 3.00 each, at most 24 of them. In
2019 the line carried 318,204 passengers; in 2020 only 97,551; by 2023 it had reached 341,870, more
than ever before.

"You never told me that you could play," said Anna. He closed the lid of the piano and looked at
his hands as if they belonged to somebody else. "I can't, really. I learned three pieces when I
was a boy, and I've been playing the same three pieces ever since." She laughed. "Then play the
other two." So he opened it again, and it turned out that the second piece was a waltz, and that
the third he had forgotten in the middle, where he stopped, began again, and stopped once more.

To make bread for two days, mix 500 grams of flour, 350 grams of water, 10 grams of salt and a
small spoon of yeast. Stir until no dry flour is left, cover the bowl and wait for half an hour.
Then fold the dough over itself four times, turning the bowl a little after each fold. Do this again
after another half hour, and once more after that. Leave it in a cool place until the morning.
Heat the oven as hot as it will go, with an iron pot inside. Bake for 25 minutes with the lid on and
for 15 minutes without. If it sounds hollow when you knock on the bottom, it is done.

def moving_average(values, width):
    """Mean of each window of `width` consecutive values."""
    if width <= 0 or width > len(values):
        raise ValueError("width must be between 1 and the number of values")
    total = sum(values[:width])
    result = [total / width]
    for i in range(width, len(values)):
        total += values[i] - values[i - width]
        result.append(total / width)
    return result

The function above visits every value once and keeps only one running sum, so its cost does not
depend on the width. Rounding errors do add up over a very long list, because each step adds one
number and subtracts another; where that matters, compute the sum of each block afresh, or keep a
second variable for the part that was lost. This is a small example of a general question: is it
better to remember a summary, or to remember everything and look at it again? A summary is cheap,
but it cannot be undone.

早上的港口很安静。两条渔船在天亮以前回来了,船员们坐在石阶上整理鱼,小声地说话。市场来的女人提着篮子,
沿着墙慢慢走过去,每条船都问一问价钱,摇摇头,再往前走。大家都知道,最后她会回到第一条船,
付她一开始说的价钱。

Why is the sky dark at night? If there were infinitely many stars, spread evenly and shining for
ever, then every line of sight would end on the surface of one of them, and the whole sky would
be as bright as the sun. It is not, so at least one of the assumptions must be wrong. Dust in
between does not help: it would heat up until it glowed as well. The answer is that the universe
has an age. Light from the most distant stars has not had the time to reach us, and what has been
travelling longest has been stretched so far that our eyes can no longer see it.

The committee met on Thursday to discuss three proposals. The first, to repair the bridge, was
accepted without a vote. The second, to close the upper road to lorries between six in the
evening and six in the morning, was discussed for two hours and then sent back with a request for
measurements. The third was withdrawn. Before the meeting ended, the treasurer reminded the members
that the budget for the year has to be ready by the end of the month, that last year it was not,
and that she does not intend to explain this to the auditors a second time.

A letter, found in a drawer: Dear Tom, the garden has survived the winter better than we have. The
pear tree lost one branch in the storm, but everything else is as you left it, and the roses by
the gate are already showing green. I did as you said and cut them hard. Your brother thinks I cut
them too hard, but he thinks that about everything. Come in June if you can. Bring the red book,
and bring the saw. With love to all of you, Margaret.
)TEXT";
}

}  // namespace stoker
