(() => {
  const byId = (id) => document.getElementById(id);
  const all = (selector) => [...document.querySelectorAll(selector)];
  for (const part of all("[data-script]")) part.hidden = false;
  const { threshold: calibrated, axis, kinds } = JSON.parse(byId("scores").textContent);
  const cards = all("#cards>article");
  let threshold = calibrated;

  // Verdicts: everything that follows the threshold.
  const isCalled = (element) => Number(element.dataset.decisive) > threshold;
  const isMistake = (element) => element.dataset.mistake === (isCalled(element) ? "defective" : "good");
  const judged = all("[data-decisive]").map((element) => ({ element, badge: element.querySelector(".badge") }));
  const lines = all(".cut");
  const origin = document.querySelector("[data-live=threshold]")?.textContent;
  const found = new Map(all("[data-found]").map((cell) => [cell.dataset.found, cell]));
  const place = (score) => (axis.logarithmic ? Math.sign(score) * Math.log1p(Math.abs(score)) : score);
  const score = (place) => (axis.logarithmic ? Math.sign(place) * Math.expm1(Math.abs(place)) : place);
  const share = () => Math.min(1, Math.max(0, (place(threshold) - axis.low) / (axis.high - axis.low)));

  const judge = () => {
    for (const { element, badge } of judged) {
      const called = isCalled(element);
      badge.textContent = called ? element.dataset.defective : element.dataset.good;
      const bad = element.dataset.mistake ? isMistake(element) : called;
      badge.classList.toggle("bad", bad);
    }
    for (const line of lines) {
      const { from, to } = line.dataset;
      line.setAttribute("transform", `translate(${Number(from) + share() * (to - from)} 0)`);
    }
    const count = { good: [0, 0], defective: [0, 0], unknown: [0, 0] };
    for (const { name, truth, decisive } of kinds) {
      const called = decisive.filter((value) => value !== null && value > threshold).length;
      count[truth][0] += called;
      count[truth][1] += decisive.length;
      const cell = truth === "defective" && found.get(name);
      if (cell) {
        cell.textContent = `${called} of ${decisive.length}`;
        cell.dataset.value = called / decisive.length;
      }
    }
    const missed = count.defective[1] - count.defective[0];
    const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)}\u00a0%` : "–");
    const live = {
      missed,
      found: count.defective[0],
      rejected: count.good[0],
      passed: count.good[1] - count.good[0],
      called: count.unknown[0],
      "missed-share": percent(missed, count.defective[1]),
      "rejected-share": percent(...count.good),
      "called-share": percent(...count.unknown),
      threshold: threshold === calibrated ? origin : `the threshold ${Number(threshold.toPrecision(4))}, moved by hand`,
    };
    for (const element of all("[data-live]")) element.textContent = live[element.dataset.live];
  };

  // The images: their order and which are shown.
  const gallery = byId("cards");
  const [order, show] = [byId("order"), byId("show")];
  const far = (card) => Math.abs(card.dataset.decisive - threshold);
  const orders = {
    interest: (a, b) => isMistake(b) - isMistake(a) || (isMistake(a) ? far(b) - far(a) : far(a) - far(b)) || 0,
    high: (a, b) => b.dataset.score - a.dataset.score,
    low: (a, b) => a.dataset.score - b.dataset.score,
    name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true }),
  };
  const arrange = () => {
    if (!gallery) return;
    const [what, kind] = show.value.split(/:(.*)/s);
    const wanted = {
      "": () => true,
      mistake: isMistake,
      called: isCalled,
      accepted: (card) => !isCalled(card),
      kind: (card) => card.dataset.kind === kind,
    }[what];
    for (const card of cards) card.hidden = !wanted(card);
    gallery.append(...cards.sort(orders[order.value]));
    byId("count").textContent = `${cards.filter((card) => !card.hidden).length} shown`;
  };
  order?.addEventListener("change", arrange);
  show?.addEventListener("change", arrange);

  // The threshold.
  const [slider, number, back] = [byId("cut"), byId("cut-number"), byId("back")];
  const move = (to) => {
    threshold = to;
    slider.value = 1000 * share();
    slider.setAttribute("aria-valuetext", String(Number(to.toPrecision(4))));
    number.value = Number(to.toPrecision(6));
    back.disabled = to === calibrated;
    judge();
  };
  if (slider) {
    slider.addEventListener("input", () => {
      const at = slider.value;
      move(score(axis.low + (at / 1000) * (axis.high - axis.low)));
      slider.value = at;
    });
    slider.addEventListener("change", arrange);
    number.addEventListener("change", () => {
      const to = number.valueAsNumber;
      move(Number.isFinite(to) ? to : calibrated);
      arrange();
    });
    back.addEventListener("click", () => {
      move(calibrated);
      arrange();
      slider.focus();
    });
    move(calibrated);
  }
  arrange();

  // What is drawn over the images.
  const root = document.documentElement;
  byId("heat")?.addEventListener("input", (event) => root.style.setProperty("--heat", event.target.value / 100));
  for (const id of ["truth", "regions"])
    byId(id)?.addEventListener("change", (event) => root.classList.toggle(`no-${id}`, !event.target.checked));

  // The large view.
  const [viewer, stage, view] = [byId("viewer"), byId("stage"), byId("view")];
  let current, picture, zoom;
  const resize = () => {
    const { width, height } = stage.getBoundingClientRect();
    const ratio = picture.style.getPropertyValue("--ratio");
    picture.style.width = `${zoom * Math.min(width, height * ratio)}px`;
  };
  const zoomTo = (wanted, at) => {
    const frame = stage.getBoundingClientRect();
    const [x, y] = at ?? [frame.left + frame.width / 2, frame.top + frame.height / 2];
    const before = picture.getBoundingClientRect();
    zoom = Math.min(16, Math.max(1, wanted));
    resize();
    // The point under the pointer stays where it is.
    const after = picture.getBoundingClientRect();
    stage.scrollLeft += after.left + ((x - before.left) / before.width) * after.width - x;
    stage.scrollTop += after.top + ((y - before.top) / before.height) * after.height - y;
  };
  const open = (card) => {
    current = card;
    zoom = 1;
    const button = card.querySelector(".picture");
    picture = document.createElement("div");
    picture.className = "picture";
    picture.style.cssText = button.style.cssText;
    picture.append(...[...button.children].map((child) => child.cloneNode(true)));
    stage.replaceChildren(picture);
    byId("viewer-name").textContent = card.dataset.name;
    byId("viewer-verdict").replaceChildren(card.querySelector(".badge").cloneNode(true));
    byId("viewer-about").replaceChildren(...all(`#${card.id}>.score,#${card.id}>details`).map((part) => part.cloneNode(true)));
    if (!viewer.open) {
      viewer.querySelector("footer").append(view);
      viewer.showModal();
    }
    resize();
    stage.focus();
  };
  const step = (by) => {
    const shown = cards.filter((card) => !card.hidden);
    open(shown[(shown.indexOf(current) + by + shown.length) % shown.length]);
  };
  const actions = {
    close: () => viewer.close(),
    previous: () => step(-1),
    next: () => step(1),
    out: () => zoomTo(zoom / 1.5),
    in: () => zoomTo(zoom * 1.5),
    whole: () => zoomTo(1),
  };
  const keys = { "+": "in", "=": "in", "-": "out", 0: "whole", PageUp: "previous", PageDown: "next", p: "previous", n: "next" };
  viewer.addEventListener("click", (event) => actions[event.target.dataset?.do]?.());
  viewer.addEventListener("keydown", (event) => {
    const action = event.ctrlKey || event.metaKey || event.target.matches("input") ? undefined : keys[event.key];
    if (action) {
      event.preventDefault();
      actions[action]();
    }
  });
  viewer.addEventListener("close", () => {
    byId("view-place").append(view);
    current.querySelector(".picture").focus();
  });
  stage.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      zoomTo(zoom * Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), [event.clientX, event.clientY]);
    },
    { passive: false },
  );
  // A finger moves the image by scrolling; a mouse drags it.
  stage.addEventListener("pointermove", (event) => {
    if (event.pointerType === "mouse" && event.buttons === 1) stage.scrollBy(-event.movementX, -event.movementY);
  });
  window.addEventListener("resize", () => viewer.open && resize());
  for (const card of cards) card.querySelector(".picture").addEventListener("click", () => open(card));
  for (const link of all('a[href^="#image-"]'))
    link.addEventListener("click", (event) => {
      event.preventDefault();
      open(document.querySelector(link.getAttribute("href")));
    });
})();
