"use strict";
// Tables that are sorted by a click on a head; cells without a figure stay at the end.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  for (const row of body.rows)
    [...row.cells].forEach((cell, column) => (cell.dataset.label = heads[column].textContent));
  const compare = (a, b, sign) => {
    const missing = (text) => text === "" || text === "–";
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    const difference = a - b;
    return sign * (Number.isNaN(difference) ? a.localeCompare(b, undefined, { numeric: true }) : difference);
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const sign = order === "ascending" ? 1 : -1;
      body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b), sign)));
    });
  });
}
