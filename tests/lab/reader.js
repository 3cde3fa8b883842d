// Uses the page as a reader would and writes down, in data-said, what it saw.
addEventListener("load", () => {
  const said = [];
  const byId = (id) => document.getElementById(id);
  const scrub = byId("scrub"), fit = byId("zoom-fit"), canvas = byId("canvas");
  const box = scrub.getBoundingClientRect();
  const key = (name) =>
    scrub.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
  const place = (x) => ({ clientX: box.left + x, clientY: box.top + 20, bubbles: true, cancelable: true });
  const point = (type, x) =>
    scrub.dispatchEvent(new PointerEvent(type, { pointerId: 1, movementX: 1, ...place(x) }));
  const at = () => scrub.getAttribute("aria-valuenow");
  scrub.setPointerCapture = () => {}; // there is no real pointer to capture

  for (const type of ["pointermove", "pointerdown", "pointerup"]) point(type, box.width / 2);
  said.push(`clicked ${at()}`);
  said.push(`tip ${!byId("tip").hidden} ${byId("tip").textContent.includes("Caller")}`);
  key("Home");
  said.push(`home ${at()}`);
  key("n");
  said.push(`next ${at()}`);
  scrub.dispatchEvent(new WheelEvent("wheel", { deltaY: -200, ...place(5) }));
  said.push(`zoomed ${!fit.disabled}`);
  key("0");
  said.push(`fit ${fit.disabled}`);

  const shown = [...document.querySelectorAll(".lane button")].filter((label) => !label.hidden);
  const boxes = shown.map((label) => label.getBoundingClientRect());
  const apart = (a, b) =>
    a === b || a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
  said.push(`labels ${boxes.length} apart ${boxes.every((a) => boxes.every((b) => apart(a, b)))}`);
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  said.push(`drawn ${data.some((value) => value > 0)}`);
  said.push(`audio ${byId("audio").src.startsWith("blob:")}`);
  document.documentElement.dataset.said = said.join(", ");
});
