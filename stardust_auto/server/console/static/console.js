"use strict";
// The key comes in the fragment of the address: a browser never sends it, so we post it once and forget it.
(() => {
  const match = /^#key=([\w-]+)$/.exec(location.hash);
  if (!match) return;
  history.replaceState(null, "", location.pathname + location.search);
  const form = document.getElementById("login");
  if (!form) return;
  form.elements.key.value = match[1];
  form.submit();
})();
// Lists keep themselves fresh while nobody types, selects, points at a row, has the focus in them or has something open.
(() => {
  const seconds = Number(document.querySelector("main").dataset.refresh);
  if (!seconds) return;
  const busy = () => document.hidden || document.querySelector("main details[open]") || String(getSelection()) ||
    document.querySelector("main").contains(document.activeElement) || document.querySelector("main tr:hover");
  const gone = document.getElementById("gone");
  setInterval(async () => {
    if (busy()) return;
    try {
      const reply = await fetch(location.href, { credentials: "same-origin" });
      gone.hidden = true;
      if (!reply.ok || reply.redirected) return;
      const page = new DOMParser().parseFromString(await reply.text(), "text/html");
      const fresh = page.querySelector("main");
      if (!fresh || busy()) return;
      const columns = [...document.querySelectorAll("main .scroll")].map((table) => table.scrollLeft);
      document.querySelector("main").replaceWith(fresh);
      document.querySelectorAll("main .scroll").forEach((table, index) => { table.scrollLeft = columns[index] || 0; });
    } catch (error) {
      gone.hidden = false;
      console.debug("not refreshed", error);
    }
  }, seconds * 1000);
})();
