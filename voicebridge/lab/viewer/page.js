// What stands around the waves, and the start of it all.

// ---- what stands around the waves ----
function head() {
  $("title").textContent = call.title;
  $("subtitle").textContent = call.subtitle;
  $("subtitle").hidden = !call.subtitle;
  const { ok, text, problems } = call.verdict, box = $("verdict"), words = make("div", text);
  box.classList.add(ok ? "ok" : "not");
  const icon = draw("svg", { viewBox: "0 0 20 20", width: 20, height: 20, "aria-hidden": "true" });
  icon.append(draw("path", { d: ok ? "M4 10.5l4 4 8-9" : "M10 3v8.5M10 16v.2" }));
  if (problems.length) {
    const list = make("ul");
    problems.forEach((problem) => list.append(make("li", problem)));
    words.append(list);
  }
  box.append(icon, words);
  for (const tile of call.tiles) {
    const box = make("div", null, { class: `tile ${tile.tone}` }), value = make("div", tile.value, { class: "value" });
    if (tile.unit) value.append(make("span", tile.unit, { class: "unit" }));
    box.append(make("div", tile.label, { class: "label" }), value, make("div", tile.caption, { class: "caption" }));
    $("tiles").append(box);
  }
  $("tiles").hidden = !call.tiles.length;
  for (const event of call.events) {
    const row = make("tr");
    row.append(make("td", clock(event.at, 3)), make("td", event.label), make("td", event.detail));
    $("rows").append(row);
  }
  document.querySelector("details").hidden = !call.events.length;
  call.notes.forEach((note) => $("notes").querySelector("ul").append(make("li", note)));
  $("notes").hidden = !call.notes.length;
}
const nice = (raw) => { const p = 10 ** Math.floor(Math.log10(raw)); return p * [1, 2, 5, 10].find((m) => m * p >= raw * 0.999); };
function percentile(sorted, share) {
  const at = (sorted.length - 1) * share, low = Math.floor(at);
  return sorted[low] + (at - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}
function distribution(data) {
  const sorted = [...data.values].sort((a, b) => a - b), box = make("figure", null, { class: "figure" });
  const marks = [["half within", 0.5], ["95 % within", 0.95], ["99 % within", 0.99], ["worst", 1]].map(([name, share]) => [name, percentile(sorted, share)]);
  const W = 460, H = 150, FOOT = 22, SIDE = 8, base = H - FOOT;
  const least = sorted[0], most = sorted[sorted.length - 1], near = least > most * 0.5;
  // Values that hardly differ must not look spread out: the axis spans a tenth of them at least.
  const range = near ? Math.max(most - least, most * 0.1) : most;
  const step = nice(Math.max(range / 34, 1e-3));
  const low = near ? Math.max(0, Math.floor(((least + most - range) / 2 - step) / step) * step) : 0;
  const high = Math.max(low + 12 * step, Math.ceil((low + range + 2 * step) / step) * step);
  const px = (v) => SIDE + ((v - low) / (high - low)) * (W - 2 * SIDE);
  const bins = new Array(Math.round((high - low) / step) + 1).fill(0);
  for (const v of sorted) bins[Math.min(bins.length - 1, Math.floor((v - low) / step + 1e-9))]++;
  const tallest = Math.max(...bins), wide = px(low + step) - px(low), dot = Math.min(wide * 0.44, 6.5, (base - 16) / tallest / 2.2), dots = dot >= 1.9;
  const spoken = marks.map(([name, v]) => `${name} ${figure(v)} ${data.unit}`).join(", ");
  const plot = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${data.title}: ${spoken}` });
  const tick = nice((high - low) / 6), digits = tick >= 1 ? 0 : tick >= 0.1 ? 1 : tick >= 0.01 ? 2 : 3;
  for (let n = Math.ceil(low / tick - 1e-6); n * tick <= high + 1e-9; n++) {
    const last = (n + 1) * tick > high + 1e-9, words = (n * tick).toFixed(digits) + (last ? " " + data.unit : "");
    plot.append(draw("text", { x: clamp(px(n * tick), 12, W - 20), y: H - 4, "text-anchor": "middle" }, words));
    plot.append(draw("line", { class: "axis", x1: px(n * tick), x2: px(n * tick), y1: base, y2: base + 4 }));
  }
  plot.append(draw("line", { class: "axis", x1: SIDE, x2: W - SIDE, y1: base, y2: base }));
  const [half, most95] = [px(marks[0][1]), px(marks[1][1])], close = most95 - half < 46;
  for (const [at, words] of [[half, close ? "half, 95 %" : "half"], [most95, close ? "" : "95 %"]]) {
    plot.append(draw("line", { class: "p", x1: at, x2: at, y1: 12, y2: base }));
    if (words) plot.append(draw("text", { x: clamp(at, 30, W - 30), y: 8, "text-anchor": "middle" }, words));
  }
  bins.forEach((count, i) => {
    if (!count) return;
    const words = `${figure(low + i * step)} to ${figure(low + (i + 1) * step)} ${data.unit}: ${count}`;
    if (dots) for (let n = 0; n < count; n++) {
      const mark = draw("circle", { class: "mark", cx: px(low + (i + 0.5) * step), cy: base - 2 - dot - n * dot * 2.2, r: dot });
      mark.append(draw("title", {}, words)); plot.append(mark);
    } else {
      const tall = Math.max(1.5, (count / tallest) * (base - 18));
      const mark = draw("rect", { class: "mark", x: px(low + i * step) + 0.5, y: base - tall, width: Math.max(1, wide - 1), height: tall, rx: Math.min(2, tall / 2) });
      mark.append(draw("title", {}, words)); plot.append(mark);
    }
  });
  const list = make("dl");
  for (const [name, v] of marks) {
    const pair = make("div");
    pair.append(make("dt", name), make("dd", `${figure(v)} ${data.unit}`));
    list.append(pair);
  }
  const title = make("figcaption");
  title.append(make("h2", data.title), make("p", `${data.caption} ${sorted.length} ${data.each}.`.trim(), { class: "muted" }));
  box.append(title, plot, list);
  return box;
}

head();
for (const data of call.distributions) if (data.values.length) $("figures").append(distribution(data));
loadPlayer();
scrub.setAttribute("aria-valuemax", total.toFixed(2));
player.addEventListener("play", () => { face(); follow(); });
for (const stop of ["pause", "ended"]) player.addEventListener(stop, face);
player.addEventListener("ended", () => { position = total; move(); });
$("play").addEventListener("click", toggle);
$("zoom-in").addEventListener("click", () => zoom(0.6, centre()));
$("zoom-out").addEventListener("click", () => zoom(1 / 0.6, centre()));
$("zoom-fit").addEventListener("click", () => show(0, total));
for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", schedule);
window.addEventListener("beforeprint", () => { show(0, total); layout(); paint(); });
new ResizeObserver(() => { if (stage.clientWidth !== width) layout(); }).observe(stage);
layout();
show(0, total);
paint();
document.documentElement.dataset.rendered = "yes";
