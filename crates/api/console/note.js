// What a page says when its figures could not be had: why, and of when those are that it still shows.

import { h, setText, words } from "./dom.js";
import { now } from "./live.js";
import { clock } from "./words.js";

export function loadNote() {
  const element = h("p.refusal", { role: "alert" });
  let had = null;
  let failed = false;
  return {
    element,
    failed: () => failed,
    /** Runs `work`, which asks and shows. */
    async load(work) {
      try {
        await work();
        had = now();
        failed = false;
        setText(element, "");
      } catch (problem) {
        if (problem?.name === "AbortError") return;
        failed = true;
        setText(element, `${words(problem)}.${had ? ` Shown is what was so at ${clock(had, now())}.` : ""}`.replace(/\.\.(?= |$)/, "."));
      }
    },
  };
}
