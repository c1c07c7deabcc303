// The measured values as files, made from what the page carries.
{
  const cell = (value) => {
    let text = Array.isArray(value) ? value.map((pass) => pass.join(" ")).join("; ") : String(value ?? "");
    // A spreadsheet would run a name that begins like a formula.
    if (typeof value === "string" && /^[=+\-@]/.test(text)) text = `'${text}`;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const csv = ({ runs: [{ cells }] }) => {
    const columns = Object.keys(cells[0] ?? {});
    return [columns, ...cells.map((one) => columns.map((name) => one[name]))]
      .map((row) => `${row.map(cell).join(",")}\n`).join("");
  };
  const files = {
    csv: async () => new Blob([csv(await measured())], { type: "text/csv" }),
    json: async () => new Blob([await measuredText()], { type: "application/json" }),
  };
  for (const button of document.querySelectorAll("button[data-download]")) {
    button.hidden = !("DecompressionStream" in window);
    button.addEventListener("click", async () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await files[button.dataset.download]());
      link.download = button.dataset.name;
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }
}
