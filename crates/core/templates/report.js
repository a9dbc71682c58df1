"use strict";
(() => {
  const cards = document.getElementById("cards");
  if (!cards) return;
  const all = [...cards.children];
  const order = document.getElementById("order");
  const show = document.getElementById("show");
  const count = document.getElementById("count");
  const orders = {
    place: (a, b) => a.dataset.place - b.dataset.place,
    high: (a, b) => b.dataset.score - a.dataset.score,
    low: (a, b) => a.dataset.score - b.dataset.score,
    name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true }),
  };
  const update = () => {
    const kind = show.value.startsWith("kind:") ? show.value.slice(5) : null;
    let shown = 0;
    for (const card of all) {
      const wanted = kind === null ? show.value === "" || card.dataset.mistake === "true" : card.dataset.kind === kind;
      card.hidden = !wanted;
      shown += wanted;
    }
    cards.append(...all.sort(orders[order.value]));
    count.textContent = `${shown} shown`;
  };
  order.addEventListener("change", update);
  show.addEventListener("change", update);
  update();
})();
