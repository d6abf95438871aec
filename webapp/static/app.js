"use strict";
/* What HTML and htmx cannot say: the dialog, focus, the port that follows its mode, secrets that hide again. */
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const dialog = () => $("#dialog");
  let opener = null;
  let dirty = false;

  const focusOnProblem = (root) => $("[data-focus]", root)?.focus();

  const say = (text) => {
    const place = $("#said");
    if (place.matches(":popover-open")) place.hidePopover();
    if (!text) return;
    place.showPopover(); // The top layer, so that an open dialog does not cover it.
    place.textContent = text;
    setTimeout(() => { if (place.textContent === text && place.matches(":popover-open")) place.hidePopover(); }, 6000);
  };

  /* The dialog ------------------------------------------------------- */
  document.addEventListener("click", (event) => {
    const link = event.target.closest('[hx-target="#dialog"]');
    if (link && !dialog().open) opener = link;
  });
  document.addEventListener("htmx:after:swap", (event) => {
    const box = dialog();
    if (!box) return;
    if (event.detail?.ctx?.target === box && box.childElementCount && !box.open) {
      dirty = false;
      box.showModal();
      $("input:not([type=hidden]), select", $(".dialog-body", box))?.focus();
    }
    focusOnProblem(box.open ? box : document);
  });
  document.addEventListener("input", (event) => { if (event.target.form && dialog()?.contains(event.target)) dirty = true; });
  const mayClose = () => !dirty || window.confirm("Close without saving? What you typed here will be lost.");
  document.addEventListener("submit", (event) => {
    if (event.target.method === "dialog" && !mayClose()) event.preventDefault();
  });
  document.addEventListener("DOMContentLoaded", () => {
    dialog()?.addEventListener("cancel", (event) => { if (!mayClose()) event.preventDefault(); });
    dialog()?.addEventListener("close", () => {
      dirty = false;
      dialog().replaceChildren();
      opener?.focus();
      opener = null;
    });
    focusOnProblem(document);
  });
  document.addEventListener("keypost:done", (event) => {
    dirty = false;
    if (dialog()?.open) dialog().close();
    say(event.detail?.say);
  });

  /* A second click never doubles an action --------------------------- */
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("[data-once]") || event.defaultPrevented || form.hasAttribute("hx-post")) return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "1";
  });
  window.addEventListener("pageshow", () => document.querySelectorAll("[data-sent]").forEach((form) => delete form.dataset.sent));

  /* The port follows the mode until somebody types one ---------------- */
  document.addEventListener("input", (event) => {
    if (event.target.matches("[data-port]")) event.target.dataset.typed = "1";
  });
  document.addEventListener("change", (event) => {
    const port = $("[data-port]", event.target.form ?? document);
    const follows = event.target.dataset.defaultPort;
    if (follows && port && !port.dataset.typed) port.value = follows;
    const consent = event.target.name === "server_name" && event.target.form?.elements.unencrypted_login_allowed;
    if (consent) consent.checked = false;  /* It was given for the server named before. */
  });

  /* A known remedy fills in its fields, and may press a button after --- */
  const fill = (form, fields) => {
    for (const [name, value] of new URLSearchParams(fields)) {
      const found = form.elements[name];
      const field = found instanceof RadioNodeList ? [...found].find((radio) => radio.value === value) : found;
      if (!field) continue;
      if (field.type === "radio" || field.type === "checkbox") field.checked = true;
      else field.value = value;
      if (name === "port") field.dataset.typed = "1";
      field.dispatchEvent(new Event("change", { bubbles: true }));
    }
    dirty = true;
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-fill]");
    if (!button?.form || event.defaultPrevented) return;
    event.preventDefault();
    fill(button.form, button.dataset.fill);
    $(button.dataset.then ?? "#none")?.click();
    $(button.dataset.show ?? "#none")?.focus();
    if (button.dataset.say) say(button.dataset.say);
  });
  document.addEventListener("htmx:after:swap", (event) => {
    const place = event.detail?.ctx?.target;
    const fields = place instanceof Element && place.closest("form") && $("[data-fill-now]", place)?.dataset.fillNow;
    if (fields) fill(place.closest("form"), fields);
  });

  /* A button that came in an answer presses one of the form's own, once what it asks for is ticked */
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-press]");
    if (!button || event.defaultPrevented) return;
    event.preventDefault();
    const tick = $(button.dataset.ticked ?? "#none");
    if (tick && !tick.checked) {
      $(button.dataset.unticked ?? "#none")?.removeAttribute("hidden");
      tick.focus();
      return;
    }
    $(button.dataset.press)?.click();
  });

  /* Enter in a field that belongs to another button than Save presses that one */
  document.addEventListener("keydown", (event) => {
    const button = event.key === "Enter" && event.target.dataset?.enter;
    if (!button) return;
    event.preventDefault();
    $(button)?.click();
  });

  /* Secrets ----------------------------------------------------------- */
  const hide = (place) => {
    place.replaceChildren();
    place.closest(".reveal")?.removeAttribute("data-shown");
  };
  document.addEventListener("htmx:after:swap", (event) => {
    const place = event.detail?.ctx?.target;
    if (!place?.matches?.("[data-secret]")) return;
    clearTimeout(place.hideTimer);
    place.hideTimer = setTimeout(() => hide(place), 10000);
  });
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = $(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source?.value ?? source?.textContent ?? "");
      say("Copied.");
    } catch {
      say("The browser did not allow copying. Select the text and copy it yourself.");
    }
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-use]");
    const field = button && $("input[type=password]", button.closest("form"));
    if (!field) return;
    field.value = $(button.dataset.use).textContent;
    field.focus();
    say("The generated password is in the field. Nothing is saved yet.");
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-hide]");
    if (button) hide(button.closest("[data-secret]"));
  });

  /* A lost connection is told kindly; nothing typed is lost ------------ */
  document.addEventListener("htmx:error", () => say("Keypost did not answer. What you typed is still here; try again in a moment."));
})();
