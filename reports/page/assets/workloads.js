// Shows one workload at a time; without scripts all of them stand below each other.
for (const select of document.querySelectorAll("select[data-workloads]")) {
  const parts = [...document.querySelectorAll("[data-workload]")];
  const show = () => {
    for (const part of parts) part.hidden = part.dataset.workload !== select.value;
  };
  select.closest("p").hidden = false;
  select.addEventListener("change", show);
  addEventListener("beforeprint", () => parts.forEach((part) => (part.hidden = false)));
  addEventListener("afterprint", show);
  show();
}
