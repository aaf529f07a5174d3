"""What draws points and molecules, on data whose picture is known, and what is saved of it."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from tests.browser.conftest import Pages
from tests.browser.live import LIMIT, Dashboard

pytest.importorskip("playwright")

from playwright.sync_api import expect

expect.set_options(timeout=LIMIT * 1000)

POINTS = """async () => {
  const at = (name) => import(new URL(`static/js/${name}`, location.href.split('#')[0]));
  const {Points} = await at('embedding/points.js');
  const {bin, drawBins, drawPoints} = await at('embedding/raster.js');
  const {Grid, inside} = await at('embedding/grid.js');
  const points = new Points();
  const take = (x, y, more = {}) => points.take(
    {reset: false, simulations: ['a', 'b'], ...more.meta},
    {x: Float32Array.from(x), y: Float32Array.from(y), colour: Float32Array.from(x),
     simulation: Uint16Array.from(x, (_, i) => i % 2), offset: Float64Array.from(x, (_, i) => i),
     version: new Uint16Array(x.length).fill(more.version ?? 1)});
  const found = {};

  // One point in the middle of each quarter; what is not a number is nowhere.
  take([1, 3, 1, NaN], [1, 3, 3, 2], {meta: {
    total: 40, versions: [{version: 1, stamp: 0, count: 4}]}});
  const view = {x0: 0, x1: 4, y0: 0, y1: 4};
  const shade = {values: points.colour, table: Uint32Array.of(1, 2, 3), low: 0, high: 4, none: 9};
  const paint = (more) => {
    const pixels = new Uint32Array(16);
    const drawn = drawPoints(pixels, 4, 4, points, view, {shade, size: 1, ...more});
    return [drawn, ...pixels];
  };
  found.plain = paint({});
  found.hidden = paint({shown: Uint8Array.of(1, 0)});
  take([3], [1], {version: 2, meta: {
    total: 1, versions: [
      {version: 1, stamp: 0, count: 4}, {version: 2, stamp: 5, count: 1}]}});
  shade.values = points.colour;
  found.pale = paint({dim: {version: points.newest, background: 0xffffffff}});
  found.versions = points.versions.map((one) => one.version);
  found.total = points.total;
  found.frames = points.find([{simulation: 'b', offset: 1}, {simulation: 'c', offset: 1}]);
  const bins = bin(4, 4, 2, points, view);
  found.bins = [...bins.counts];
  const pixels = new Uint32Array(16);
  drawBins(pixels, 4, 4, 2, bins, Uint32Array.of(5, 6));
  found.density = [...pixels];

  // The index finds what a walk over all points finds.
  const many = new Points();
  let seed = 7;
  const next = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  const n = 3000;
  const x = Float32Array.from({length: n}, () => next() ** 3);
  const y = Float32Array.from({length: n}, next);
  x[17] = NaN;
  many.take({reset: true}, {x, y});
  const grid = new Grid(many);
  found.wrong = 0;
  for (let k = 0; k < 200; k += 1) {
    const [u, v] = [next(), next()];
    let best = -1;
    let least = 20 ** 2;
    for (let i = 0; i < n; i += 1) {
      const far = ((x[i] - u) * 800) ** 2 + ((y[i] - v) * 500) ** 2;
      if (far < least) [best, least] = [i, far];
    }
    if (grid.nearest(u, v, 20, 800, 500) !== best) found.wrong += 1;
  }
  const triangle = [[0, 0], [1, 0], [0, 1]];
  const within = grid.within(0, 1, 0, 1, (i) => inside(triangle, x[i], y[i]));
  found.triangle = within.length === x.filter((value, i) => value + y[i] < 1).length;
  return found;
}"""

MOLECULE = """async () => {
  const at = (name) => import(new URL(`static/js/${name}`, location.href.split('#')[0]));
  const {Model} = await at('molecule/model.js');
  const {pdbText} = await at('molecule/pdb.js');
  const {PlainViewer} = await at('molecule/plain.js');
  const ui = await at('ui.js');
  const found = {};
  // Water across the face of a box, bonds not named.
  const box = Float32Array.of(2, 0, 0, 0, 2, 0, 0, 0, 2);
  const whole = Float32Array.of(1.95, 1, 1, 2.045, 1, 1, 1.92, 1.09, 1);
  const water = new Model({names: ['O', 'H1', 'H2'], unit: 'nm'}, whole);
  found.bonds = [...water.bonds];
  const broken = Float32Array.from(whole);
  broken[3] -= 2;
  found.joined = Math.abs(water.whole(broken, box)[3] - 2.045) < 1e-5;
  found.pdb = pdbText(water, whole).split('\\n');

  // 5,000 atoms as 1,000 residues of five, in every way of drawing.
  const names = [], residues = [], ids = [], backbone = [];
  const positions = new Float32Array(15000);
  for (let i = 0; i < 5000; i += 1) {
    const k = Math.floor(i / 5);
    names.push(['N', 'CA', 'C', 'O', 'CB'][i % 5]);
    residues.push('ALA');
    ids.push(k + 1);
    if (i % 5 === 1) backbone.push(i);
    const turn = k * 1.745;
    positions.set([Math.cos(turn) * 0.23 + (k % 25) * 0.1 - 1,
      Math.sin(turn) * 0.23 + (i % 5) * 0.12, k * 0.004 - 2], 3 * i);
  }
  const model = new Model({names, residues, residue_ids: ids, backbone, unit: 'nm'}, positions);
  const theme = {dark: false, background: 'rgb(255, 255, 255)', muted: 'rgb(90, 90, 90)'};
  const viewer = new PlainViewer(ui, theme);
  Object.assign(viewer.element.style, {position: 'fixed', width: '400px', height: '300px'});
  document.body.append(viewer.element);
  viewer.setModel(model, positions);
  viewer.resize();
  found.drawn = {};
  for (const representation of ['cartoon', 'licorice', 'ball+stick', 'spheres', 'points']) {
    viewer.setStyle({representation});
    viewer.update(positions, {vectors: box, origin: [1, 1, 1]});
    const {data} = viewer.element.getContext('2d').getImageData(0, 0, 400, 300);
    const pixels = new Uint32Array(data.buffer);
    found.drawn[representation] = pixels.filter((pixel) => pixel !== 0xffffffff).length;
  }
  viewer.close();
  viewer.element.remove();
  return found;
}"""


def test_points_are_drawn_where_they_are(dashboard: Dashboard, pages: Pages) -> None:
    found: Any = pages.open(dashboard.url, "overview").evaluate(POINTS)
    # Rows from the top; the colour is that of x: 1 is 0.5 of the table's two steps, 3 is 1.5.
    assert found["plain"] == [3, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 1, 0, 0]
    assert found["hidden"][0] == 2
    assert found["pale"][0] == 4
    assert found["versions"] == [1, 2]
    assert found["total"] == 41
    assert found["frames"] == [1]
    assert found["bins"] == [1, 1, 1, 1]
    assert sum(value != 0 for value in found["density"]) == 16
    assert found["wrong"] == 0
    assert found["triangle"]


def test_molecules_are_put_together_and_drawn(dashboard: Dashboard, pages: Pages) -> None:
    found: Any = pages.open(dashboard.url, "overview").evaluate(MOLECULE)
    assert sorted(found["bonds"]) == [0, 0, 1, 2]
    assert found["joined"]
    assert found["pdb"][0].startswith("ATOM      1  O   UNK A   1      19.500  10.000  10.000")
    assert any(line.startswith("CONECT    1    2    3") for line in found["pdb"])
    for representation, drawn in found["drawn"].items():
        assert drawn > 1000, representation


def test_what_an_embedding_shows_is_saved(dashboard: Dashboard, pages: Pages) -> None:
    dashboard.wait("/api/run", lambda run: run["embedding"])
    page = pages.open(dashboard.url, "embedding")
    expect(page.get_by_test_id("embedding-empty")).to_be_hidden()
    page.get_by_test_id("embedding-colour").select_option(":simulation")
    expect(page.get_by_test_id("embedding-legend")).to_be_visible()
    page.get_by_test_id("embedding-mode-density").click()
    expect(page.get_by_test_id("embedding-legend")).to_be_hidden()
    panel = page.get_by_test_id("embedding-panel")
    with page.expect_download() as saved:
        panel.get_by_test_id("export-png").click()
    assert saved.value.path().read_bytes().startswith(b"\x89PNG")
    with page.expect_download() as saved:
        panel.get_by_test_id("export-csv").click()
    rows = list(csv.DictReader(io.StringIO(saved.value.path().read_text())))
    assert rows
    assert {"simulation", "offset", "step", "unix_time"} <= set(rows[0])
    # Keys choose, walk on, and let go.
    page.get_by_test_id("embedding-canvas").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("embedding-chosen-count")).to_have_text("1 frame chosen")
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("embedding-chosen-count")).to_have_count(0)


def test_ngl_draws_within_the_policy_of_the_page(dashboard: Dashboard, pages: Pages) -> None:
    dashboard.wait("/api/overview", lambda o: all(s["step"] > 0 for s in o["simulations"]))
    page = pages.open(dashboard.url, "molecule")
    page.get_by_test_id("molecule-drawing").select_option("webgl")
    canvas = page.get_by_test_id("molecule-canvas").locator("canvas")
    expect(canvas.first).to_be_visible()
    before = page.get_by_test_id("molecule-caption").inner_text()
    expect(page.get_by_test_id("molecule-caption")).not_to_have_text(before)
    panel = page.get_by_test_id("molecule-panel")
    with page.expect_download() as saved:
        panel.get_by_test_id("export-png").click()
    assert saved.value.path().read_bytes().startswith(b"\x89PNG")
