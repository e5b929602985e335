"use strict";
// A click on a head sorts its table. Cells sort by data-sort, as numbers where all of a column are numbers; cells
// without data-sort come last in either direction.
for (const table of document.querySelectorAll("table.data")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    if (body.rows.length < 2 || !head.textContent) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const rows = [...body.rows].map((row) => ({ row, key: row.cells[column].dataset.sort }));
      const present = rows.filter(({ key }) => key !== undefined);
      const absent = rows.filter(({ key }) => key === undefined);
      const numeric = present.every(({ key }) => key.trim() !== "" && !Number.isNaN(Number(key)));
      const compare = numeric ? (a, b) => a.key - b.key : (a, b) => a.key.localeCompare(b.key, "en", { numeric: true });
      present.sort((a, b) => (ascending ? compare(a, b) : compare(b, a)));
      body.append(...[...present, ...absent].map(({ row }) => row));
    });
  });
}
// A table or drawing that is wider than its place says so above, and is marked on the side where it goes on.
for (const area of document.querySelectorAll(".scroll")) {
  const hint = document.createElement("p");
  hint.className = "scroll-hint";
  hint.textContent = `Scroll the ${area.querySelector("table") ? "table" : "figure"} sideways \u2192`;
  area.before(hint);
  const mark = () => {
    const beyond = area.scrollWidth - area.clientWidth;
    hint.classList.toggle("shown", beyond > 1);
    area.classList.toggle("more", beyond - area.scrollLeft > 1);
  };
  area.addEventListener("scroll", mark, { passive: true });
  addEventListener("resize", mark);
  mark();
}
// Print the details that are closed on the screen, too.
const folded = [...document.querySelectorAll("details")];
let open = [];
addEventListener("beforeprint", () => {
  open = folded.filter((element) => element.open);
  for (const element of folded) element.open = true;
});
addEventListener("afterprint", () => {
  for (const element of folded) element.open = open.includes(element);
});
