"use strict";
// What the page carries packed: gzip in base64, unpacked once and when first needed.
const once = (make) => {
  let made;
  return () => (made ??= make());
};
const unpack = (id) => once(async () => {
  const carrier = document.getElementById(id);
  const base64 = (carrier.href ?? carrier.text).split(",").pop();
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
});
const measuredText = unpack("measured");
const measured = once(async () => JSON.parse(await measuredText()));
const librarySource = unpack("library");
const library = once(async () => {
  const script = document.createElement("script");
  script.textContent = await librarySource();
  document.head.append(script);
  return window.Plotly;
});
