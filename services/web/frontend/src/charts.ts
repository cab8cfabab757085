// Draws the charts in the place of the server's plain ones, from the same numbers.

import { BarChart, CustomChart, LineChart } from "echarts/charts";
import { AriaComponent, GridComponent, LegendComponent, TooltipComponent } from "echarts/components";
import * as echarts from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";

echarts.use([BarChart, CustomChart, LineChart, CanvasRenderer]);
echarts.use([AriaComponent, GridComponent, LegendComponent, TooltipComponent]);

type Values = (number | null)[];

interface Gauge {
  title: string;
  unit: string;
  decimals: number;
  top: number;
  mean: Values;
  low: Values;
  high: Values;
}

interface Readings {
  since: number;
  until: number;
  step: number;
  /** How much time before its end a bucket tells of. */
  reach: number;
  starts: number[];
  gauges: Record<string, Gauge>;
  lanes: { state: string; shares: Values }[];
}

interface Periods {
  names: string[];
  stacks: { state: string; hours: Values }[];
}

interface Data {
  readings?: Readings;
  host?: Readings;
  periods?: Periods;
}

type Option = echarts.EChartsCoreOption;

const drawn = new Map<HTMLElement, echarts.ECharts>();
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) drawn.get(target as HTMLElement)?.resize();
});

function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function common(): Option {
  const text = { color: colour("quiet"), fontFamily: "system-ui, sans-serif", fontSize: 12 };
  return {
    animation: false,
    useUTC: true,
    textStyle: text,
    tooltip: {
      trigger: "axis",
      confine: true,
      // HTML would need inline styles, which our content security policy refuses.
      renderMode: "richText",
      backgroundColor: colour("surface"),
      borderColor: colour("line-strong"),
      textStyle: { ...text, color: colour("text") },
      axisPointer: { type: "line", lineStyle: { color: colour("line-strong") } },
    },
  };
}

function timeAxis(readings: Readings, withLabels: boolean): Option {
  return {
    type: "time",
    min: readings.since,
    max: readings.until,
    axisLine: { lineStyle: { color: colour("line-strong") } },
    axisTick: { show: withLabels },
    axisLabel: {
      show: withLabels,
      hideOverlap: true,
      color: colour("quiet"),
      formatter: { year: "{yyyy}", month: "{d} {MMM}", day: "{d} {MMM}", hour: "{HH}:{mm}", minute: "{HH}:{mm}" },
    },
    splitLine: { show: false },
  };
}

function moment(at: number, step: number): string {
  const iso = new Date(at).toISOString();
  return step >= 86_400_000 ? iso.slice(0, 10) : `${iso.slice(0, step < 60_000 ? 19 : 16).replace("T", " ")} UTC`;
}

function gaugeOption(readings: Readings, gauge: Gauge): Option {
  const middle = readings.step / 2;
  const points = (values: Values) => values.map((value, i) => [(readings.starts[i] ?? 0) + middle, value]);
  const band = gauge.high.map((high, i) => {
    const low = gauge.low[i];
    return high == null || low == null ? null : high - low;
  });
  const line = colour("accent");
  // A point between two gaps has no line: it needs a dot.
  const isAlone = (i: number) => gauge.mean[i - 1] == null && gauge.mean[i + 1] == null;
  const invisible = { type: "line", stack: "band", symbol: "none", lineStyle: { opacity: 0 }, silent: true };
  const number = (value: number | null | undefined) => (value == null ? "–" : value.toFixed(gauge.decimals));
  return {
    ...common(),
    grid: { left: 44, right: 10, top: 10, bottom: 24 },
    xAxis: timeAxis(readings, true),
    yAxis: {
      type: "value",
      min: 0,
      max: gauge.top,
      interval: gauge.top / 2,
      axisLabel: { color: colour("quiet") },
      splitLine: { lineStyle: { color: colour("line") } },
    },
    tooltip: {
      ...(common()["tooltip"] as object),
      formatter: (found: { dataIndex: number }[]) => {
        const i = found[0]?.dataIndex ?? 0;
        const when = moment(readings.starts[i] ?? 0, readings.step);
        if (gauge.mean[i] == null) return `${when}\nno data`;
        const unit = gauge.unit ? ` ${gauge.unit}` : "";
        return `${when}\n${number(gauge.mean[i])}${unit} (${number(gauge.low[i])} to ${number(gauge.high[i])})`;
      },
    },
    series: [
      { ...invisible, data: points(gauge.low) },
      { ...invisible, data: points(band), areaStyle: { color: line, opacity: 0.18 } },
      {
        type: "line",
        data: points(gauge.mean),
        color: line,
        lineStyle: { width: 1.6 },
        symbol: "circle",
        showSymbol: true,
        showAllSymbol: true,
        symbolSize: (_: unknown, at: { dataIndex: number }) => (isAlone(at.dataIndex) ? 4 : 0),
      },
    ],
  };
}

function statesOption(readings: Readings): Option {
  // The axis counts from below.
  const lanes = [...readings.lanes].reverse();
  const names = lanes.map(({ state }) => state);
  const rows = lanes.flatMap(({ shares }, lane) => stretches(readings, shares, lane));
  const colours = names.map(colour);
  return {
    ...common(),
    grid: { left: 72, right: 10, top: 4, bottom: 24 },
    xAxis: timeAxis(readings, true),
    yAxis: {
      type: "category",
      data: names,
      axisLine: { show: false },
      axisTick: { show: false },
      axisLabel: { color: colour("text") },
      splitLine: { show: true, lineStyle: { color: colour("line") } },
    },
    tooltip: {
      ...(common()["tooltip"] as object),
      trigger: "item",
      formatter: ({ value: [begin, lane, share, end] }: { value: Stretch }) =>
        `${names[lane]} ${Math.round(100 * share)} %\n${moment(begin, readings.step)} to\n${moment(end, readings.step)}`,
    },
    series: [
      {
        type: "custom",
        data: rows,
        clip: true,
        // How much of the time is told by the height, so that colour is never needed.
        renderItem: (_: unknown, api: Drawing) => {
          const [begin, lane, share, end] = [api.value(0), api.value(1), api.value(2), api.value(3)];
          const [x, y] = api.coord([begin, lane]);
          const [right] = api.coord([end, lane]);
          const tall = 0.78 * api.size([0, 1])[1];
          return {
            type: "rect",
            shape: { x, y: y + tall / 2 - tall * share, width: Math.max(1, right - x), height: tall * share },
            style: { fill: colours[lane] },
          };
        },
      },
    ],
  };
}

/** Begin, lane, share and end. */
type Stretch = [number, number, number, number];

/** What is alike is one rectangle: many would have seams. */
function stretches(readings: Readings, shares: Values, lane: number): Stretch[] {
  const found: Stretch[] = [];
  shares.forEach((share, i) => {
    const end = (readings.starts[i] ?? 0) + readings.step;
    const begin = Math.max(readings.since, end - readings.reach);
    const last = found.at(-1);
    if (!share) return;
    if (last && last[2] === share && begin <= last[3] + readings.step / 100) last[3] = end;
    else found.push([begin, lane, share, end]);
  });
  return found;
}

interface Drawing {
  value(dimension: number): number;
  coord(point: [number, number]): [number, number];
  size(extent: [number, number]): [number, number];
}

function periodsOption({ names, stacks }: Periods): Option {
  return {
    ...common(),
    aria: { enabled: true, label: { enabled: false }, decal: { show: true } },
    // With the patterns that tell the states apart without colour.
    legend: { left: 0, top: 0, selectedMode: false, textStyle: { color: colour("text") } },
    grid: { left: 52, right: 10, top: 36, bottom: 26 },
    xAxis: {
      type: "category",
      data: names,
      axisLabel: { hideOverlap: true, color: colour("quiet") },
      axisLine: { lineStyle: { color: colour("line-strong") } },
      axisTick: { show: false },
    },
    yAxis: {
      type: "value",
      splitNumber: 3,
      axisLabel: { color: colour("quiet") },
      splitLine: { lineStyle: { color: colour("line") } },
    },
    tooltip: {
      ...(common()["tooltip"] as object),
      axisPointer: { type: "shadow" },
      formatter: (found: { dataIndex: number; seriesName: string; value: number | null }[]) => {
        const name = names[found[0]?.dataIndex ?? 0];
        if (found.every(({ value }) => value == null)) return `${name}\nnothing was recorded`;
        return [name, ...found.map(({ seriesName, value }) => `${seriesName} ${(value ?? 0).toFixed(1)} h`)].join("\n");
      },
    },
    series: stacks.map(({ state, hours }) => ({
      type: "bar",
      name: state,
      stack: "all",
      color: colour(state),
      barCategoryGap: "20%",
      // One day alone is no wall.
      barMaxWidth: 120,
      data: hours,
    })),
  };
}

function optionOf(place: HTMLElement, data: Data): Option | null {
  const { gauge, states, periods } = place.dataset;
  const readings = place.dataset["of"] === "host" ? data.host : data.readings;
  const found = gauge === undefined ? undefined : readings?.gauges[gauge];
  if (readings && found) return gaugeOption(readings, found);
  if (data.readings && states !== undefined) return statesOption(data.readings);
  if (data.periods && periods !== undefined) return periodsOption(data.periods);
  return null;
}

function draw(): void {
  const text = document.getElementById("chart-data")?.textContent;
  const data: Data = text ? JSON.parse(text) : {};
  for (const [place, chart] of drawn) {
    if (place.isConnected) continue;
    sizes.unobserve(place);
    chart.dispose();
    drawn.delete(place);
  }
  const linked: Record<string, echarts.ECharts[]> = {};
  for (const place of document.querySelectorAll<HTMLElement>(".plot")) {
    const option = optionOf(place, data);
    if (!option) continue;
    let chart = drawn.get(place);
    if (!chart) {
      const words = place.querySelector("svg")?.getAttribute("aria-label") ?? "";
      place.replaceChildren();
      place.dataset["drawn"] = "";
      place.setAttribute("role", "img");
      place.setAttribute("aria-label", words);
      chart = echarts.init(place, null, { renderer: "canvas" });
      drawn.set(place, chart);
      sizes.observe(place);
    }
    chart.setOption(option, true);
    // Those of one set have the same buckets.
    if (place.dataset["gauge"] !== undefined) (linked[place.dataset["of"] ?? ""] ??= []).push(chart);
  }
  for (const set of Object.values(linked)) if (set.length > 1) echarts.connect(set);
}

draw();
document.addEventListener("gleaner:refreshed", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
