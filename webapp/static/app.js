"use strict";
/* What HTML and htmx cannot say: the dialog, focus, the port that follows its mode, secrets that hide again. */
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const dialog = () => $("#dialog");
  let opener = null;
  let dirty = false;
  let acted = false;

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
      dirty = acted = false;
      box.showModal();
      $("input:not([type=hidden]), select", $(".dialog-body", box))?.focus();
    }
    focusOnProblem(box.open ? box : document);
  });
  document.addEventListener("input", (event) => { if (event.target.form && dialog()?.contains(event.target)) dirty = true; });
  document.addEventListener("htmx:before:request", (event) => {
    const { sourceElement, request } = event.detail?.ctx ?? {};
    if (request?.method === "POST" && dialog()?.contains(sourceElement)) acted = true;
  });
  const mayClose = () => !dirty || window.confirm(document.body.dataset.unsaved);
  document.addEventListener("submit", (event) => {
    if (event.target.method === "dialog" && !mayClose()) event.preventDefault();
  });
  /* A browser lets a dialog object to one Escape and closes it at the next, so the key itself is asked. */
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented || !dirty || !dialog()?.contains(event.target)) return;
    event.preventDefault();
    if (mayClose()) dialog().close();
  });
  document.addEventListener("DOMContentLoaded", () => {
    dialog()?.addEventListener("cancel", (event) => {
      if (event.target === dialog() && !mayClose()) event.preventDefault();
    });
    dialog()?.addEventListener("close", () => {
      dirty = false;
      dialog().replaceChildren();
      opener?.focus();
      opener = null;
      if (acted) document.body.dispatchEvent(new Event("dialog-acted")); /* A test or a trust leaves the page behind old. */
      acted = false;
    });
    focusOnProblem(document);
    const refused = $("form [data-focus]")?.closest("form:not(.door form)");
    if (refused) unsent.add(refused);
  });
  document.addEventListener("keypost:done", (event) => {
    dirty = acted = false;
    if (dialog()?.open) dialog().close();
    say(event.detail?.say);
  });

  /* Proof of who one is, asked for above whatever is open; then the same button is pressed again --- */
  let unproved = null;
  const proof = () => $("#proof");
  document.addEventListener("keypost:prove", (event) => { unproved = event.target; });
  document.addEventListener("htmx:after:swap", (event) => {
    if (event.detail?.ctx?.target !== proof() || !proof()) return;
    if (!proof().open) proof().showModal();
    ($("[data-focus]", proof()) ?? $("#proof_password", proof()))?.focus();
  });
  document.addEventListener("keypost:proved", () => {
    const again = unproved;
    proof().close();
    if (again instanceof HTMLFormElement) again.requestSubmit();
    else again?.click();
  });
  document.addEventListener("DOMContentLoaded", () => proof()?.addEventListener("close", () => {
    unproved = null;
    proof().replaceChildren();
  }));

  /* Combobox: a search that keeps the focus while arrows choose in the list it controls (WAI-ARIA APG) ------ */
  const listOf = (search) => $(search.dataset.list);
  const offered = (list) => list instanceof HTMLSelectElement
    ? [...list.options].filter((option) => !option.disabled)
    : [...list.querySelectorAll("[role=option]:not([aria-disabled])")];
  const chosen = (list) => list instanceof HTMLSelectElement ? list.selectedOptions[0] : $("[aria-selected=true]", list);
  const point = (search, option) => {
    const list = listOf(search);
    if (list instanceof HTMLSelectElement) option.selected = true;
    else for (const each of offered(list)) each.setAttribute("aria-selected", String(each === option));
    search.setAttribute("aria-activedescendant", option.id);
    option.scrollIntoView({ block: "nearest" });
  };
  const dress = (root) => root.querySelectorAll("[data-list]").forEach((search) => {
    search.setAttribute("role", "combobox"); /* Without a script it is a search beside a list, and says no more. */
    search.setAttribute("aria-autocomplete", "list");
    search.setAttribute("aria-expanded", "true");
  });
  document.addEventListener("DOMContentLoaded", () => dress(document));
  document.addEventListener("keydown", (event) => {
    const search = event.target.closest?.("[data-list]");
    if (!search || event.isComposing) return;
    const list = listOf(search);
    const options = offered(list);
    const at = options.indexOf(chosen(list));
    if (["ArrowDown", "ArrowUp"].includes(event.key) && options.length) {
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      const next = at < 0 ? (step > 0 ? 0 : options.length - 1) : (at + step + options.length) % options.length;
      point(search, options[next]);
      list.dispatchEvent(new Event("input", { bubbles: true }));
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (list instanceof HTMLSelectElement) return;
      if (search.dataset.shown === search.value) options[Math.max(at, 0)]?.click();
      else search.dataset.awaited = search.value; /* The list is still that of other words: taken once it has come. */
    }
  });
  document.addEventListener("input", (event) => { delete event.target.dataset?.awaited; });
  document.addEventListener("htmx:before:request", (event) => {
    const search = event.detail?.ctx?.sourceElement;
    if (search?.matches?.("[data-list]")) search.dataset.asked = search.value;
  });
  document.addEventListener("htmx:before:swap", (event) => {
    const list = event.detail?.ctx?.target;
    if (list instanceof HTMLSelectElement) list.dataset.chosen = list.value; /* Meanwhile, perhaps. */
  });
  document.addEventListener("htmx:after:swap", (event) => {
    dress(document);
    const list = event.detail?.ctx?.target;
    if (list instanceof HTMLSelectElement && !list.value) list.value = list.dataset.chosen;
    const search = list?.id && $(`[data-list="#${list.id}"]`);
    if (!search) return;
    search.removeAttribute("aria-activedescendant");
    const number = offered(list).length;
    search.dataset.shown = search.dataset.asked;
    if (number && !(list instanceof HTMLSelectElement)) point(search, offered(list)[0]); /* Enter takes it. */
    if ("awaited" in search.dataset && search.dataset.awaited === search.dataset.shown) offered(list)[0]?.click();
    const said = $(search.dataset.said).dataset;
    $(search.dataset.said).textContent = number === 0 ? said.none : number === 1 ? said.one : said.many.replace("{number}", number);
  });

  /* Keys ------------------------------------------------------------------- */
  /* A deferred htmx looks at the page in a timer of its own; what is asked of it before then is lost. */
  const htmxListens = new Promise((resolve) => { setTimeout(resolve); });
  const open = (box) => {
    if (!box || $("dialog[open]")) return;
    const before = document.activeElement;
    box.addEventListener("close", () => {
      before?.focus?.();
      if (box.contains(document.activeElement)) document.activeElement.blur();
    }, { once: true });
    box.showModal();
    const search = $("[data-list]", box);
    if (!search) return;
    search.value = "";
    search.focus();
    htmxListens.then(() => search.dispatchEvent(new Event("keypost:palette")));
  };
  document.addEventListener("keydown", (event) => {
    /* A field of a dialog that has just closed keeps the focus until the page is drawn next. */
    const typing = event.target.matches?.("input, select, textarea, [contenteditable]") && event.target.getClientRects().length;
    if (event.defaultPrevented || event.altKey) return;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k" && !event.shiftKey && $("#palette")) {
      event.preventDefault();
      if ($("#palette").open) $("#palette").close();
      else open($("#palette"));
    } else if (event.ctrlKey || event.metaKey || typing || $("dialog[open]") || !("singleKeys" in document.body.dataset)) {
      return; /* WCAG 2.1.4: who speaks to the machine can switch single keys off. */
    } else if (event.key === "?" && $("#keys")) {
      open($("#keys"));
    } else if (event.key === "/" && $("main [type=search]")) {
      event.preventDefault();
      $("main [type=search]").focus();
    }
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-open]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || !$(link.dataset.open)) return;
    event.preventDefault();
    open($(link.dataset.open));
  });
  document.addEventListener("click", (event) => { if (event.target.id === "palette") event.target.close(); });

  /* A session that ended meanwhile: signed in again in another tab, the same button is pressed once more --- */
  let interrupted = null;
  const ended = () => $("#ended");
  const formToken = async () => {
    const answer = await fetch($("[data-resume]").dataset.resume, { headers: { "HX-Request": "true" } }).catch(() => null);
    return answer?.ok ? answer.text() : null;
  };
  const askAgain = (source, token) => {
    document.querySelectorAll("[name=csrf_token]").forEach((field) => { field.value = token; });
    if (source instanceof HTMLFormElement) source.requestSubmit();
    else if (source?.matches?.("a, button")) source.click();
    else for (const method of ["get", "post"]) {
      const path = source?.getAttribute?.(`hx-${method}`);
      if (path) htmx.ajax(method, path, { source });
    }
  };
  /* Who proves who they are gets another token, and what was on its way with the former one is refused although nothing
     has ended. The new one may still be on its way, too: what nobody pressed can wait for it. */
  const PATIENCE = [0, 1000, 3000];
  /* What is refused again so soon after is refused for another cause, and is not asked for without end. */
  const SOON = 10_000;
  const askedAgain = new WeakMap();
  const tokenInTime = async (pauses) => {
    for (const pause of pauses) {
      await new Promise((resolve) => { setTimeout(resolve, pause); });
      const token = await formToken();
      if (token !== null) return token;
    }
    return null;
  };
  document.addEventListener("keypost:ended", async ({ target }) => {
    if (!ended() || ended().open) return;
    const soon = performance.now() - (askedAgain.get(target) ?? -Infinity) < SOON;
    const token = soon ? null : await tokenInTime(target.matches?.("form, a, button") ? [0] : PATIENCE);
    if (token !== null) {
      askedAgain.set(target, performance.now());
      askAgain(target, token);
      return;
    }
    interrupted ??= target;
    if (!ended().open) ended().showModal();
  });
  const resume = async (quietly) => {
    const token = await formToken();
    if (token === null) {
      if (!quietly) say($("[data-resume]").dataset.notYet);
      return;
    }
    const again = interrupted;
    ended().close();
    askAgain(again, token);
  };
  document.addEventListener("click", (event) => { if (event.target.closest("[data-resume]")) resume(false); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && ended()?.open) resume(true); });
  document.addEventListener("DOMContentLoaded", () => ended()?.addEventListener("close", () => { interrupted = null; }));

  /* Leaving a page with something typed that was not sent is asked about ------- */
  const unsent = new Set();
  document.addEventListener("input", (event) => {
    const form = event.target.form;
    if (form?.method === "post" && !form.closest("dialog, .door") && event.target.type !== "search") unsent.add(form);
  });
  /* Without a network a browser calls itself offline, also where Keypost runs on its own machine: so Keypost is asked. */
  const answering = new WeakSet();
  const sendOnceAnswered = async (form, button) => {
    if (!(await fetch(document.body.dataset.alive).catch(() => null))) {
      say(document.body.dataset.offline);
      return;
    }
    answering.add(form);
    form.requestSubmit(button);
    answering.delete(form);
  };
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented) return;
    if (!navigator.onLine && form.method === "post" && !answering.has(form)) {
      event.preventDefault();
      sendOnceAnswered(form, event.submitter);
    } else {
      unsent.delete(form);
    }
  });
  document.addEventListener("click", (event) => {
    const form = event.target.closest("form .actions a[href]:not([target])")?.closest("form");
    if (form) unsent.delete(form); /* Cancel means it. */
  });
  window.addEventListener("beforeunload", (event) => {
    const typed = [...unsent].some((form) => form.isConnected) || (dirty && dialog()?.open);
    if (typed) event.preventDefault();
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

  /* A placeholder goes where one was typing last ------------------- */
  let typedIn = null;
  document.addEventListener("focusin", (event) => { if (event.target.matches("[data-insertable]")) typedIn = event.target; });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-insert]");
    if (!button) return;
    const last = typedIn?.form === button.form ? typedIn : $("textarea[data-insertable]", button.form);
    last.setRangeText(button.dataset.insert, last.selectionStart, last.selectionEnd, "end");
    last.focus();
    last.dispatchEvent(new Event("input", { bubbles: true }));
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
      say(document.body.dataset.copied);
    } catch {
      say(document.body.dataset.uncopied);
    }
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-use]");
    const field = button && $("input[name=password]", button.closest("form"));
    if (!field) return;
    field.value = $(button.dataset.use).textContent;
    field.focus();
    say(document.body.dataset.generated);
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-peek]");
    if (!button) return;
    const field = $("input", button.parentElement);
    field.type = field.type === "password" ? "text" : "password";
    [button.textContent, button.dataset.other] = [button.dataset.other, button.textContent];
  });
  document.addEventListener("submit", (event) => {
    /* Sent as a password, so that no browser offers it among what was typed in other fields. */
    event.target.querySelectorAll("[type=text] + [data-peek]").forEach((button) => button.click());
    if (event.defaultPrevented || !event.target.matches("[data-forget]")) return;
    /* The page stays when a file is the answer; the form is read right after this event. */
    setTimeout(() => event.target.querySelectorAll("[name^=proof_]").forEach((field) => { field.value = ""; }));
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-hide]");
    if (button) hide(button.closest("[data-secret]"));
  });

  /* What renews itself waits while nobody looks, while somebody is in it by keyboard, and while text is marked */
  document.addEventListener("htmx:before:request", (event) => {
    const place = event.detail?.ctx?.sourceElement;
    if (!place?.matches?.("[data-polite]")) return;
    if (document.hidden || !getSelection().isCollapsed || $(":focus", place) || $("dialog[open]")) event.preventDefault();
  });

  /* Passkeys: the browser's answer goes into the form, which is then sent like any other ---------------- */
  const askBrowser = async (form, address, create) => {
    const answer = await fetch(address, { method: "POST", body: new URLSearchParams({ csrf_token: form.elements.csrf_token.value }) });
    if (answer.status === 422) throw new Error("proof");
    const options = await answer.json();
    const made = create
      ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) })
      : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
    return JSON.stringify(made.toJSON());
  };
  
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("[data-passkey]") || form.elements.credential.value) return;
    event.preventDefault();
    const said = $("[data-passkey-said]", form);
    said.textContent = document.body.dataset.follow;
    try {
      form.elements.credential.value = await askBrowser(form, form.dataset.options, form.dataset.passkey === "create");
      form.submit();
    } catch (error) {
      if (error.message === "proof") { location.href = "/confirm?next=" + encodeURIComponent(location.pathname); return; }
      said.textContent = error.name === "InvalidStateError"
        ? document.body.dataset.held
        : document.body.dataset.unfinished;
    }
  });
  document.addEventListener("click", async (event) => {
    const place = event.target.closest("[data-passkey-proof] button")?.parentElement;
    if (!place) return;
    const form = place.closest("form"), said = $("[data-passkey-said]", place);
    said.textContent = document.body.dataset.follow;
    try {
      $("input", place).value = await askBrowser(form, place.dataset.passkeyProof, false);
      form.requestSubmit($("button.primary", form));
    } catch {
      said.textContent = document.body.dataset.unfinished;
    }
  });
  const offerPasskeys = (root) => {
    if (window.PublicKeyCredential?.parseRequestOptionsFromJSON) root.querySelectorAll("[data-passkey-proof]").forEach((place) => { place.hidden = false; });
  };
  document.addEventListener("htmx:after:swap", () => offerPasskeys(document));
  document.addEventListener("DOMContentLoaded", () => {
    offerPasskeys(document);
    const able = window.PublicKeyCredential?.parseCreationOptionsFromJSON;
    document.querySelectorAll("[data-passkey]").forEach((form) => {
      if (able) form.hidden = false;
      else if (form.dataset.passkey === "create") { form.elements.name.disabled = true; $("[data-passkey-said]", form).textContent = document.body.dataset.unable; $("button", form).hidden = true; }
    });
  });

  /* No browser sends its time zone by itself; times are shown in it */
  document.cookie = `keypost-zone=${Intl.DateTimeFormat().resolvedOptions().timeZone}; path=/; max-age=31536000; samesite=lax${location.protocol === "https:" ? "; secure" : ""}`;

  /* What went wrong is told kindly; nothing typed is lost --------------- */
  document.addEventListener("keypost:say", (event) => say(event.detail?.say));

  /* What a test says stays in view: its stages while they end, and then its verdict */
  const tested = new MutationObserver(() => {
    const shown = $("#_test_result");
    if (!shown) return;
    const last = shown.dataset.outcome === "running" ? $(".stages", shown) : $(".notice", shown);
    (last || shown).scrollIntoView({ block: "nearest" });
  });
  document.addEventListener("click", (event) => {
    const place = event.target.closest("button") && $("#test-result");
    if (place) tested.observe(place, { childList: true, subtree: true });
  });

  document.addEventListener("htmx:error", () => say(document.body.dataset.unanswered));
})();
