"""Word lists of the corpus grammar. Everything here was written for this project."""

GIRLS = ("Mira Lena Tessa Nora Ada Ivy Ruth Clara Hanna Bella Zoe Greta Wilma Elsa Maya Rosa "
         "Dora Petra Vera Lily Anna Emma Jana Sofia").split()
BOYS = ("Tomas Oscar Finn Leo Max Ben Hugo Karl Peter Simon Lukas Jonas Milo Otto Paul Felix "
        "Adam Noah Emil Anton David Victor Martin Robert").split()
NAMES = GIRLS + BOYS
PET_NAMES = ("Pip Bruno Momo Rusty Coco Shadow Biscuit Pepper Nutmeg Waffle Dusty Bramble "
             "Sunny Button Clover Toffee").split()
ANIMALS = ("fox owl rabbit bear mouse hedgehog goat duck frog squirrel crow horse cat dog "
           "turtle swan").split()
PLACES = ("forest river market bridge mill garden harbour castle meadow library cave lake "
          "tower orchard barn station bakery school").split()
OBJECTS = ("ball lamp kite drum hat book key ring cup bell map boat spoon scarf whistle mirror "
           "basket pencil button stone").split()
COLOURS = "red blue green yellow white black silver golden purple brown".split()
TRAITS = "little brave quiet clever kind curious cheerful young careful happy".split()
MOODS = "happy tired proud glad calm sleepy hungry surprised".split()
PLACE_ADJECTIVES = "dark old quiet cold bright empty green foggy sunny silent".split()
HOMES = ["in a small village", "near the sea", "by the old mill", "in a white house",
         "on a green hill", "at the edge of the town", "behind the station", "in a tall tower"]
HOBBIES = ["climb the hill", "read by the window", "walk in the rain", "count the stars",
           "feed the birds", "bake bread", "draw pictures", "sing old songs"]
RELATIVES = "mother father sister brother grandmother grandfather uncle aunt".split()
TIMES = "morning evening afternoon night".split()
WEATHER = ["the sun was shining", "it was raining", "the wind was blowing", "snow was falling",
           "the sky was grey", "the moon was bright"]
HIDING = ["under the table", "behind the door", "in the tall grass", "near the old tree",
          "under a stone", "on the roof", "beside the water", "inside a box"]
# Key -> the values it may have: no value belongs to two keys, and stories have none of them.
VALUES = {
    "fruit": "plum mango cherry melon grape peach pear fig banana papaya kiwi lime",
    "metal": "copper iron tin zinc nickel lead steel brass bronze cobalt chrome platinum",
    "flower": "tulip rose daisy lotus violet orchid poppy jasmine marigold iris dahlia aster",
    "drink": "tea coffee cocoa juice soda cider lemonade syrup broth punch nectar tonic",
    "tool": "hammer spanner drill chisel wrench pliers shovel rake axe file needle trowel",
    "game": "chess cards dominoes tennis golf hockey darts rugby bowling poker cricket tag",
    "town": "Lisbon Vienna Cairo Oslo Lima Quebec Havana Dublin Kyoto Athens Nairobi Prague",
    "gem": "amber pearl quartz jasper onyx ruby opal topaz garnet emerald sapphire jade",
    "tree": "cedar maple willow walnut birch oak elm pine ash hazel beech poplar",
    "instrument": "piano violin flute guitar harp trumpet cello banjo organ clarinet oboe tuba",
    "spice": "basil saffron pepper ginger cumin thyme mint clove vanilla paprika sage fennel",
    "fabric": "velvet silk linen cotton wool denim satin lace felt canvas tweed nylon",
    "vehicle": "rocket tram truck ferry bicycle scooter wagon sledge tractor taxi canoe van",
    "dish": "soup pizza salad stew pasta curry omelette pancake noodles pudding goulash risotto",
    "fish": "salmon trout tuna herring eel cod carp perch shark pike sardine bream",
    "bird": "falcon raven heron stork eagle sparrow robin parrot pigeon lark gull wren",
}
VALUES = {key: values.split() for key, values in VALUES.items()}
KEYS = list(VALUES)

# Questions with one answer each, all of them common knowledge.
_FACTS = """
What sound does a cat make?|A cat says meow.
What sound does a dog make?|A dog says woof.
What sound does a duck make?|A duck says quack.
What sound does an owl make?|An owl says hoot.
What sound does a cow make?|A cow says moo.
What sound does a sheep make?|A sheep says baa.
What is the opposite of hot?|The opposite of hot is cold.
What is the opposite of big?|The opposite of big is small.
What is the opposite of dark?|The opposite of dark is bright.
What is the opposite of early?|The opposite of early is late.
What is the opposite of happy?|The opposite of happy is sad.
What is the opposite of open?|The opposite of open is closed.
What is the opposite of full?|The opposite of full is empty.
What is the opposite of fast?|The opposite of fast is slow.
What is the opposite of young?|The opposite of young is old.
What is the opposite of up?|The opposite of up is down.
What colour is grass?|Grass is green.
What colour is snow?|Snow is white.
What colour is coal?|Coal is black.
What colour is a clear sky?|A clear sky is blue.
What colour is a ripe lemon?|A ripe lemon is yellow.
What colour is a ripe tomato?|A ripe tomato is red.
Which day comes after Monday?|Tuesday comes after Monday.
Which day comes after Tuesday?|Wednesday comes after Tuesday.
Which day comes after Wednesday?|Thursday comes after Wednesday.
Which day comes after Thursday?|Friday comes after Thursday.
Which day comes after Friday?|Saturday comes after Friday.
Which day comes after Saturday?|Sunday comes after Saturday.
Which day comes after Sunday?|Monday comes after Sunday.
How many legs does a spider have?|A spider has eight legs.
How many legs does a dog have?|A dog has four legs.
How many legs does a bird have?|A bird has two legs.
How many days are in a week?|A week has seven days.
How many months are in a year?|A year has twelve months.
How many hours are in a day?|A day has twenty four hours.
What do bees make?|Bees make honey.
What do cows give?|Cows give milk.
What do we use to cut bread?|We use a knife to cut bread.
What do we use to write?|We use a pencil to write.
Where do fish live?|Fish live in water.
Where do birds sleep?|Birds sleep in nests.
When does the sun rise?|The sun rises in the morning.
When do we see the stars?|We see the stars at night.
What falls from clouds?|Rain falls from clouds.
What season comes after winter?|Spring comes after winter.
What season comes after summer?|Autumn comes after summer.
Hello!|Hello! How can I help you?
Good morning!|Good morning! How can I help you?
Thank you.|You are welcome.
Who are you?|I am a very small model called M1-nano.
What can you do?|I can add and subtract, remember words, tell stories and write a little code.
How are you?|I am well, thank you.
"""
FACTS = [tuple(line.split("|")) for line in _FACTS.strip().splitlines()]
