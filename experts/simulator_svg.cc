#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <sstream>
#include <stdexcept>

#include "experts/simulator.h"

namespace stoker {
namespace {

// One page size for all plots, in pixels; the plot area leaves room for axes and a legend.
constexpr double kWidth = 860;
constexpr double kHeight = 480;
constexpr double kLeft = 70;
constexpr double kRight = 230;
constexpr double kTop = 40;
constexpr double kBottom = 60;
// Distinct without colour vision too: Okabe and Ito, 2008.
constexpr std::array<const char*, 8> kColours = {"#000000", "#e69f00", "#56b4e9", "#009e73",
                                                 "#f0e442", "#0072b2", "#d55e00", "#cc79a7"};
// Solid for the first eight series, then one for each eight more.
constexpr std::array<const char*, 4> kDashes = {"", "6 3", "2 3", "10 3 2 3"};

std::string Escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

std::string Number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.6g", value);
  return text;
}

std::string Pixels(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f", value);
  return text;
}

// A step of 1, 2 or 5 times a power of ten that gives some five ticks.
double TickStep(double range) {
  const double raw = range / 5.0;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (raw <= factor * power) return factor * power;
  }
  return 10.0 * power;
}

class Plot {
 public:
  Plot(const std::string& title, const std::string& x_label, const std::string& y_label,
       double x_max, double y_max)
      : x_max_(x_max > 0.0 ? x_max : 1.0), y_max_(y_max > 0.0 ? y_max : 1.0) {
    svg_ << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " << kWidth << ' ' << kHeight
         << "\" font-family=\"sans-serif\" font-size=\"12\">\n"
         << "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
    Text(kLeft, 24, title, "start", 15);
    Text((kLeft + kWidth - kRight) / 2, kHeight - 16, x_label, "middle", 12);
    svg_ << "<text transform=\"translate(18," << Pixels((kTop + kHeight - kBottom) / 2)
         << ") rotate(-90)\" text-anchor=\"middle\">" << Escape(y_label) << "</text>\n";
  }

  void Axes() {
    const double x_step = TickStep(x_max_);
    for (int i = 0; i * x_step <= x_max_ * 1.0001; ++i) {
      Line(X(i * x_step), Y(0), X(i * x_step), Y(y_max_), "#ddd", "");
      Text(X(i * x_step), Y(0) + 18, Number(i * x_step), "middle", 12);
    }
    const double y_step = TickStep(y_max_);
    for (int i = 0; i * y_step <= y_max_ * 1.0001; ++i) {
      Line(X(0), Y(i * y_step), X(x_max_), Y(i * y_step), "#ddd", "");
      Text(X(0) - 6, Y(i * y_step) + 4, Number(i * y_step), "end", 12);
    }
  }

  void Mark(double x, const std::string& label) {
    Line(X(x), Y(0), X(x), Y(y_max_), "#888", "4 3");
    Text(X(x) + 4, kTop + 12, label, "start", 11);
  }

  // marked: with a dot at each point, so that a single one shows.
  void Series(const std::string& name, const std::vector<std::pair<double, double>>& points,
              bool marked) {
    const char* colour = kColours[n_series_ % kColours.size()];
    const char* dash = kDashes[n_series_ / kColours.size() % kDashes.size()];
    svg_ << "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"" << colour
         << "\" stroke-dasharray=\"" << dash << "\" points=\"";
    for (const auto& [x, y] : points) svg_ << Pixels(X(x)) << ',' << Pixels(Y(y)) << ' ';
    svg_ << "\"/>\n";
    for (const auto& [x, y] : points) {
      if (!marked) break;
      svg_ << "<circle r=\"3\" cx=\"" << Pixels(X(x)) << "\" cy=\"" << Pixels(Y(y)) << "\" fill=\""
           << colour << "\"/>\n";
    }
    const double y = kTop + 10 + 18.0 * static_cast<double>(n_series_);
    Line(kWidth - kRight + 14, y, kWidth - kRight + 38, y, colour, dash);
    Text(kWidth - kRight + 44, y + 4, name, "start", 12);
    ++n_series_;
  }

  void Cell(double x, double y, double width, double height, double share, const std::string& tip) {
    // White to dark blue, by the square root so that rare use shows.
    const double strength = std::sqrt(std::clamp(share, 0.0, 1.0));
    char colour[32];
    std::snprintf(colour, sizeof(colour), "rgb(%d,%d,%d)", static_cast<int>(255 - 247 * strength),
                  static_cast<int>(255 - 207 * strength), static_cast<int>(255 - 148 * strength));
    svg_ << "<rect x=\"" << Pixels(X(x)) << "\" y=\"" << Pixels(Y(y + height)) << "\" width=\""
         << Pixels(X(x + width) - X(x)) << "\" height=\"" << Pixels(Y(y) - Y(y + height))
         << "\" fill=\"" << colour << "\"><title>" << Escape(tip) << "</title></rect>\n";
  }

  void Save(const std::filesystem::path& path) {
    svg_ << "</svg>\n";
    std::ofstream out(path, std::ios::trunc);
    out << svg_.str();
    if (!out.flush()) throw std::runtime_error("cannot write " + path.string());
  }

 private:
  double X(double x) const { return kLeft + x / x_max_ * (kWidth - kLeft - kRight); }
  double Y(double y) const { return kHeight - kBottom - y / y_max_ * (kHeight - kTop - kBottom); }
  void Text(double x, double y, const std::string& text, const char* anchor, int size) {
    svg_ << "<text x=\"" << Pixels(x) << "\" y=\"" << Pixels(y) << "\" text-anchor=\"" << anchor
         << "\" font-size=\"" << size << "\">" << Escape(text) << "</text>\n";
  }
  void Line(double x1, double y1, double x2, double y2, const char* colour,
            const std::string& dash) {
    svg_ << "<line x1=\"" << Pixels(x1) << "\" y1=\"" << Pixels(y1) << "\" x2=\"" << Pixels(x2)
         << "\" y2=\"" << Pixels(y2) << "\" stroke=\"" << colour << "\" stroke-dasharray=\"" << dash
         << "\"/>\n";
  }

  std::ostringstream svg_;
  double x_max_;
  double y_max_;
  size_t n_series_ = 0;
};

// A curve per policy over capacity in percent of all experts.
void SweepPlot(const SimulationReport& report, const std::string& title, const std::string& y_label,
               double y_max, const std::function<double(const SimulationRow&)>& value,
               const std::filesystem::path& path) {
  const auto n_entries = static_cast<double>(report.heat.size());
  Plot plot(title, "capacity, % of all experts", y_label, 100.0, y_max);
  plot.Axes();
  plot.Mark(100.0 * report.token_cycle / n_entries, "one token cycle");
  for (size_t p = 0; p < report.policies.size(); ++p) {
    std::vector<std::pair<double, double>> points;
    for (size_t c = 0; c < report.capacities.size(); ++c) {
      points.emplace_back(100.0 * report.capacities[c] / n_entries, value(report.Row(c, p)));
    }
    std::sort(points.begin(), points.end());
    plot.Series(report.policies[p], points, /*marked=*/true);
  }
  plot.Save(path);
}

double GiBPerToken(const SimulationRow& row) {
  const ReplayCounters& c = row.result.decode.tokens > 0 ? row.result.decode : row.result.total;
  return c.bytes_per_token() / (1024.0 * 1024.0 * 1024.0);
}

void HeatMap(const SimulationReport& report, const std::filesystem::path& path) {
  const TraceHeader& h = report.header;
  Plot plot("Accesses per layer and expert (experts of a layer by falling use)", "layer",
            "rank of the expert in its layer", h.n_layers, h.n_experts);
  std::vector<std::pair<uint64_t, int>> row(h.n_experts);
  uint64_t most = 1;
  for (const uint64_t count : report.heat) most = std::max(most, count);
  for (int layer = 0; layer < h.n_layers; ++layer) {
    for (int e = 0; e < h.n_experts; ++e) {
      row[e] = {report.heat[static_cast<size_t>(layer) * h.n_experts + e], e};
    }
    std::sort(row.begin(), row.end(), std::greater<>());
    for (int rank = 0; rank < h.n_experts; ++rank) {
      plot.Cell(layer, rank, 1, 1, static_cast<double>(row[rank].first) / static_cast<double>(most),
                "layer " + std::to_string(layer) + ", expert " + std::to_string(row[rank].second) +
                    ": " + std::to_string(row[rank].first));
    }
  }
  plot.Axes();
  plot.Save(path);
}

void ReusePlot(const SimulationReport& report, const std::filesystem::path& path) {
  Plot plot("Reuse distance: share of accesses within a distance", "distinct experts in between",
            "% of accesses", static_cast<double>(report.reuse.histogram.size()), 100.0);
  plot.Axes();
  plot.Mark(report.token_cycle, "one token cycle");
  std::vector<std::pair<double, double>> points = {{0.0, 0.0}};
  uint64_t sum = 0;
  for (size_t d = 0; d < report.reuse.histogram.size(); ++d) {
    if (report.reuse.histogram[d] == 0) continue;
    points.emplace_back(static_cast<double>(d), points.back().second);
    sum += report.reuse.histogram[d];
    points.emplace_back(static_cast<double>(d),
                        100.0 * static_cast<double>(sum) / static_cast<double>(report.n_accesses));
  }
  plot.Series("global LRU hits these", points, /*marked=*/false);
  plot.Save(path);
}

}  // namespace

void WriteSvg(const SimulationReport& report, const std::filesystem::path& directory) {
  std::filesystem::create_directories(directory);
  SweepPlot(
      report, "Hit rate against capacity", "hits, % of accesses", 100.0,
      [](const SimulationRow& row) { return 100.0 * row.result.total.hit_rate(); },
      directory / "hit_rate.svg");
  double most = 0.0;
  for (const SimulationRow& row : report.rows) most = std::max(most, GiBPerToken(row));
  SweepPlot(report, "Bytes read against capacity", "GiB per token", most, GiBPerToken,
            directory / "bytes_per_token.svg");
  HeatMap(report, directory / "heat_map.svg");
  ReusePlot(report, directory / "reuse_distance.svg");
}

}  // namespace stoker
