"use strict";
// Figures are drawn when they come into view, and the others while nothing else happens, in the colours of the page's theme;
// tables are sorted by their headings.

const root = document.documentElement;
const darkQuery = matchMedia("(prefers-color-scheme: dark)");
const themeButton = document.getElementById("theme");
const drawn = new Set();

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : darkQuery.matches;
}

function showTheme() {
  themeButton.setAttribute("aria-pressed", String(isDark()));
  themeButton.textContent = isDark() ? "Light theme" : "Dark theme";
  for (const plot of drawn) draw(plot);
}

// Figures name their colours as CSS variables: one palette for page and figures.
function withColours(value, style) {
  if (typeof value === "string") {
    const variable = /^var\((--[\w-]+)\)$/.exec(value);
    return variable ? style.getPropertyValue(variable[1]).trim() : value;
  }
  if (Array.isArray(value)) return value.map((item) => withColours(item, style));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withColours(item, style)]));
  }
  return value;
}

let webgl = null;

// Asked only when a figure needs it: the first context of a page is slow to make.
function hasWebgl() {
  webgl ??= Boolean(document.createElement("canvas").getContext("webgl"));
  return webgl;
}

function draw(plot) {
  const figure = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
  for (const trace of figure.data) if (trace.type === "scattergl" && !hasWebgl()) trace.type = "scatter";
  const { data, layout } = withColours(figure, getComputedStyle(root));
  Plotly.react(plot, data, layout, {
    responsive: true,
    displaylogo: false,
    // Without anything to zoom into there is no need of a toolbar, and a narrow page has no room for one.
    displayModeBar: layout.dragmode && plot.offsetWidth > 500 ? "hover" : false,
    // Nothing of the report leaves this file.
    modeBarButtonsToRemove: ["sendChartToCloud", "lasso2d", "select2d", "autoScale2d"],
  });
  drawn.add(plot);
}

function sortTable(heading) {
  const table = heading.closest("table");
  const column = [...heading.parentNode.children].indexOf(heading);
  const isAscending = heading.getAttribute("aria-sort") !== "ascending";
  for (const other of heading.parentNode.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", isAscending ? "ascending" : "descending");
  const body = table.tBodies[0];
  const key = (row) => {
    const cell = row.cells[column];
    if (cell.dataset.sort === undefined) return cell.textContent;
    return cell.dataset.sort === "" ? null : Number(cell.dataset.sort);
  };
  const collator = new Intl.Collator(undefined, { numeric: true });
  const rows = [...body.rows].map((row) => [key(row), row]);
  rows.sort(([first], [second]) => {
    if (first === null || second === null) return (first === null) - (second === null); // n/a comes last in either order
    const order = typeof first === "number" ? first - second : collator.compare(first, second);
    return isAscending ? order : -order;
  });
  body.append(...rows.map(([, row]) => row));
  const title = heading.textContent.trim();
  document.getElementById("announcement").textContent = `Sorted by ${title}, ${isAscending ? "ascending" : "descending"}`;
}

for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => sortTable(button.closest("th")));
}

// A link into a closed part of the page opens it.
function openTarget() {
  const target = location.hash.startsWith("#theme=") ? null : document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let element = target; element; element = element.parentElement) if (element.tagName === "DETAILS") element.open = true;
}

// The library is megabytes of text: it becomes a script when the first figure comes near, so that the page answers at once.
function loadLibrary() {
  if (window.Plotly) return;
  const script = document.createElement("script");
  script.textContent = document.getElementById("library").textContent;
  document.head.append(script);
}

// One figure per frame, so that scrolling goes on between them.
const queue = [];

function drawSoon() {
  requestAnimationFrame(() => setTimeout(drawNext));
}

function drawNext() {
  if (window.Plotly) draw(queue.shift());
  else loadLibrary();
  if (queue.length) drawSoon();
}

const observer = new IntersectionObserver(
  (entries) => {
    const isIdle = queue.length === 0;
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      observer.unobserve(entry.target);
      queue.push(entry.target);
    }
    if (isIdle && queue.length) drawSoon();
  },
  { rootMargin: "400px 0px" },
);
for (const plot of document.querySelectorAll(".plot")) observer.observe(plot);

// The page answers first: the rest waits until it has been left alone for a while, one figure at a time.
const QUIET_MILLISECONDS = 1000;
const whenIdle = window.requestIdleCallback ?? setTimeout; // Safari has none
let touched = performance.now();
for (const name of ["scroll", "keydown", "pointerdown", "pointermove", "wheel"]) {
  addEventListener(name, () => (touched = performance.now()), { passive: true, capture: true });
}

function drawRest() {
  const rest = [...document.querySelectorAll(".plot")].filter((plot) => !drawn.has(plot) && !queue.includes(plot));
  const next = rest.find((plot) => !plot.closest("details:not([open])")); // a closed part is drawn when it is opened
  if (!next) return;
  if (performance.now() - touched > QUIET_MILLISECONDS) {
    observer.unobserve(next);
    loadLibrary();
    draw(next);
    whenIdle(drawRest);
  } else {
    setTimeout(() => whenIdle(drawRest), QUIET_MILLISECONDS);
  }
}

addEventListener("load", () => setTimeout(() => whenIdle(drawRest), QUIET_MILLISECONDS));

addEventListener("beforeprint", () => {
  loadLibrary();
  for (const details of document.querySelectorAll("main details")) details.open = true;
  for (const plot of document.querySelectorAll(".plot")) if (!drawn.has(plot)) draw(plot);
});
openTarget();
addEventListener("hashchange", openTarget);

const chosen = /^#theme=(light|dark)$/.exec(location.hash);
if (chosen) root.dataset.theme = chosen[1];
if (matchMedia("(max-width: 56rem)").matches) document.querySelector("nav details").open = false;
themeButton.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  showTheme();
});
darkQuery.addEventListener("change", showTheme);
showTheme();
