{
  // Without this script a cell's link opens its faces too, by :target; with it they open in place and close again.
  let from = null;
  const shut = () => {
    for (const other of document.querySelectorAll(".opened-by-cell.open")) other.classList.remove("open");
    for (const cell of document.querySelectorAll(".matrix a[aria-expanded]")) cell.setAttribute("aria-expanded", "false");
  };
  document.documentElement.classList.add("cells");
  for (const cell of document.querySelectorAll(".matrix a")) {
    const faces = document.getElementById(cell.getAttribute("href").slice(1));
    cell.setAttribute("aria-expanded", "false");
    cell.addEventListener("click", (event) => {
      event.preventDefault();
      const was = faces.classList.contains("open");
      shut();
      if (was) return;
      from = cell;
      faces.classList.add("open");
      cell.setAttribute("aria-expanded", "true");
      faces.scrollIntoView({ block: "nearest" });
      faces.focus({ preventScroll: true });
    });
  }
  const back = (event) => { event.preventDefault(); shut(); from?.focus({ preventScroll: true }); };
  for (const link of document.querySelectorAll(".opened-by-cell .shut")) link.addEventListener("click", back);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && document.querySelector(".opened-by-cell.open")) back(event);
  });
}
