"""How long the HTML report of a long run takes to write, and to open in Chromium until it answers.

    python benchmarks/report_html.py --trials 10000 --repeat 5

Prints, for each opening in a fresh browser: when the text was shown, when the first figures were drawn, and when the page was
interactive (the end of the last task over 50 ms before half a second of quiet), in seconds from the start of the navigation; then how
long the slowest figure takes once it is scrolled to. The run is made up (`tests/report/examples.py`); needs `chromium` on the PATH.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from naxcli.report.html import write_html
from tests.report.examples import example_data

PROBE = """
const tasks = [];
new PerformanceObserver((list) => tasks.push(...list.getEntries())).observe({ type: "longtask", buffered: true });
addEventListener("load", async () => {
  const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  const end = () => Math.max(0, ...tasks.map((task) => task.startTime + task.duration));
  const quiet = async () => { do await wait(500); while (performance.now() - end() < 500); };
  const plots = [...document.querySelectorAll(".plot")];
  const isDrawn = (plot) => plot.classList.contains("js-plotly-plot");
  await quiet();
  const interactive = Math.max(end(), performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd);
  const shown = performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0;
  const first = plots.filter(isDrawn).length;
  let slowest = [0, ""];
  for (const plot of plots) {
    if (isDrawn(plot) || plot.closest("details:not([open])")) continue;
    const count = tasks.length;
    plot.scrollIntoView();
    await quiet();
    const duration = Math.max(0, ...tasks.slice(count).map((task) => task.duration));
    if (duration > slowest[0]) slowest = [duration, plot.dataset.figure];
  }
  const drawn = plots.filter(isDrawn).length;
  console.log("MEASURED " + JSON.stringify({ shown, interactive, first, drawn, slowest: slowest[0], slowest_name: slowest[1] }));
});
"""


def main() -> None:
    """Write the page once and open it several times."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--trials", type=int, default=10_000)
    arguments.add_argument("--repeat", type=int, default=5)
    chosen = arguments.parse_args()
    if shutil.which("chromium") is None:
        raise SystemExit("chromium is not on the PATH")
    data = example_data(chosen.trials)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        started = time.perf_counter()
        write_html(page, data)
        seconds, megabytes = time.perf_counter() - started, page.stat().st_size / 1e6
        print(f"{chosen.trials:,} trials: written in {seconds:.2f} s, {megabytes:.1f} MB, on {_machine()}")
        text = page.read_text(encoding="utf-8")
        # The page's own policy would refuse the probe.
        text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text, count=1)
        page.write_text(text.replace("<body>", f"<body><script>{PROBE}</script>", 1), encoding="utf-8")
        measured = []
        for _ in range(chosen.repeat):
            with tempfile.TemporaryDirectory() as profile:
                measured.append(open_page(page, Path(profile)))
            print("  " + ", ".join(f"{name} {_text(value)}" for name, value in measured[-1].items()))
    for name in ("shown", "interactive", "slowest"):
        values = [found[name] / 1_000 for found in measured]
        print(f"{name}: median {statistics.median(values):.2f} s, worst {max(values):.2f} s of {len(values)}")


def open_page(page: Path, profile: Path) -> dict[str, float]:
    """Return the probe's measurements in milliseconds of one opening in a fresh browser."""
    command = [
        "chromium",
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--window-size=1200,900",
        f"--user-data-dir={profile}",
    ]
    command += ["--enable-logging=stderr", "--enable-unsafe-swiftshader", "--remote-debugging-port=0", page.as_uri()]
    with _running(command) as lines:
        for line in lines:
            if found := re.search(r"MEASURED (\{.*?\})\"", line):
                measured: dict[str, float] = json.loads(found.group(1).replace('\\"', '"'))
                return measured
    raise SystemExit("the browser ended without a measurement")


@contextmanager
def _running(command: list[str]) -> Iterator[Iterator[str]]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        timer = threading.Timer(180, process.kill)
        timer.start()
        try:
            assert process.stderr is not None
            yield iter(process.stderr.readline, "")
        finally:
            timer.cancel()
            process.terminate()


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.0f}"


def _machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    return f"{len(models)} × {models[0]}" if models else platform.processor()


if __name__ == "__main__":
    main()
