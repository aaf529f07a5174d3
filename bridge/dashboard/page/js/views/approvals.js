// Decisions that wait for a person: what, why, until when, and what happens if nobody answers.

import { stateOf } from "../models.js";
import { attribute, button, confirm, format, h, keyed, put, toast } from "../ui.js";
import { author } from "./commands.js";
import { evidenceTable, frameButtons, framesOf } from "./evidence.js";

const DONE = { approve: "approved", deny: "denied" };

/** What a command does, in words, and to whom. */
export function whatOf(line) {
  return line.what || format.words(line.kind) || "command";
}

/** What became of an approval, as a sentence. */
export function settled(line) {
  const approval = line.approval ?? {};
  const by = approval.by ? ` by ${approval.by}` : "";
  return `${whatOf(line)} for ${line.simulation || "the run"} was ${approval.state === "approved" ? "approved" : "denied"}${by}.`;
}

/** What the server answered to a person's word, as a toast: [text, level]. */
export function answerOf(answer, verdict, what) {
  if (answer.already || (answer.state && answer.state !== DONE[verdict])) {
    const by = answer.by ? ` by ${answer.by}` : "";
    const text = `Somebody was quicker: it was ${format.words(answer.state)} already${by}.`;
    return [[text, answer.problem].filter(Boolean).join(" "), "warning"];
  }
  const said = `${what}: ${format.words(answer.state ?? DONE[verdict])}`;
  // The guard looks again at what was approved, and may refuse it.
  if (answer.verdict === "refused")
    return [[`${said}, but refused.`, answer.verdict_reason].filter(Boolean).join(" "), "error"];
  return answer.problem ? [`${said}. ${answer.problem}`, "warning"] : [`${said}.`, "ok"];
}

/** The list; `draw(ledger)` brings it up to date, `tick()` its countdowns. */
export function approvals({ api, connection, ledger }) {
  const nodes = new Map();
  const mine = new Set();
  let waiting = new Set();
  const element = h("div", {
    class: "approvals",
    role: "list",
    "aria-label": "Decisions that wait for approval",
    testid: "approvals",
  });

  async function decide(parts, verdict) {
    const { line } = parts;
    parts.busy = true;
    [parts.approve, parts.deny].forEach((control) => {
      control.disabled = true;
    });
    mine.add(line.id);
    try {
      const body = { verdict, reason: parts.reason.value.trim() };
      if (author()) body.author = author();
      const answer = await api.post(`approvals/${encodeURIComponent(line.id)}`, body);
      const [text, level] = answerOf(answer, verdict, whatOf(line));
      toast(text, { level, ...(level !== "ok" && { seconds: 10 }) });
    } catch (error) {
      mine.delete(line.id);
      toast(error.message, { level: "error" });
      parts.busy = false;
      [parts.approve, parts.deny].forEach((control) => {
        control.disabled = false;
      });
    }
  }

  function make(line) {
    const parts = { line };
    parts.title = h("strong", { class: "approval-what" });
    parts.who = h("span", { class: "muted" });
    parts.why = h("p", {});
    parts.left = h("span", { class: "tabular" });
    parts.bar = h("div", { class: "countdown-bar" });
    parts.otherwise = h("span", { class: "muted" });
    parts.reason = h("input", {
      type: "text",
      maxlength: 500,
      placeholder: "Reason (optional)",
      "aria-label": "Reason for the verdict",
      testid: `approval-reason-${line.id}`,
    });
    parts.approve = button("Approve", () => decide(parts, "approve"), {
      kind: "primary",
      icon: "check",
      testid: `approve-${line.id}`,
    });
    parts.deny = button("Deny", () => decide(parts, "deny"), {
      kind: "danger",
      icon: "close",
      testid: `deny-${line.id}`,
    });
    parts.node = h(
      "article",
      { class: "approval", role: "listitem", testid: `approval-${line.id}` },
      h("header", {}, parts.title, parts.who),
      parts.why,
      h("div", { class: "approval-actions" }, parts.approve, parts.deny, parts.reason),
      h("div", { class: "countdown" }, parts.bar),
      h("footer", {}, parts.left, parts.otherwise),
      frameButtons(framesOf(line.frame, line.evidence, line.simulation), {
        testid: "approval-frame",
        most: 1,
      }),
      evidenceTable(line.evidence),
    );
    return parts;
  }

  function update(parts, line) {
    parts.line = line;
    put(parts.title, `${whatOf(line)} · ${line.simulation || "run"}`);
    put(parts.who, `${line.author || "somebody"}, ${format.clock(line.decided)}`);
    put(parts.why, line.why || "No reason was given.");
    count(parts);
  }

  function count(parts) {
    const { until, default: otherwise } = parts.line.approval ?? {};
    const word =
      { approve: "approved", approved: "approved", deny: "denied", denied: "denied" }[otherwise] ??
      (otherwise ? format.words(otherwise) : "denied");
    if (!until) {
      put(parts.left, "No time limit");
      put(parts.otherwise, "it waits until somebody answers");
      parts.bar.parentElement.hidden = true;
      return;
    }
    const now = connection.now();
    const left = until - now;
    const whole = Math.max(1, until - (parts.line.decided || now));
    put(parts.left, left > 0 ? `${format.duration(Math.ceil(left))} left` : "The time is over");
    put(parts.otherwise, left > 0 ? `then it is ${word}` : `it is being ${word}`);
    parts.bar.style.setProperty(
      "width",
      `${(Math.max(0, Math.min(1, left / whole)) * 100).toFixed(1)}%`,
    );
    attribute(parts.node, "data-urgent", left < 20 ? "true" : null);
  }

  return {
    element,
    /** Approve or deny everything that waits at the moment, after a question. */
    async all(verdict) {
      const lines = ledger.awaiting;
      const answer = await confirm(
        `${verdict === "approve" ? "Approve" : "Deny"} ${lines.length} decisions?`,
        "Those that wait at this moment; others that come later are not touched.",
        {
          action: `${verdict === "approve" ? "Approve" : "Deny"} ${lines.length}`,
          kind: verdict === "approve" ? "primary" : "danger",
          testid: `${verdict}-all-confirm`,
        },
      );
      if (!answer) return;
      let [done, other, problem] = [0, "", ""];
      for (const line of lines) {
        mine.add(line.id);
        try {
          const said = await api.post(`approvals/${encodeURIComponent(line.id)}`, {
            verdict,
            reason: answer.reason,
            ...(author() && { author: author() }),
          });
          if (!said.already) done += 1;
          if (said.verdict === "refused") problem ||= said.verdict_reason;
          problem ||= said.problem;
        } catch (error) {
          mine.delete(line.id);
          other = error.message;
        }
      }
      toast(
        `${done} of ${lines.length} ${DONE[verdict]}${done < lines.length ? `; the others were settled before${other ? `, or: ${other}` : "."}` : "."}${problem ? ` ${problem}` : ""}`,
        done < lines.length || problem ? { level: "warning", seconds: 10 } : { level: "ok" },
      );
    },
    draw() {
      const lines = ledger.awaiting;
      const now = new Set(lines.map((line) => line.id));
      const others = [...waiting]
        .filter((id) => !now.has(id) && !mine.has(id))
        .map((id) => ledger.get(id))
        .filter((line) => line && stateOf(line) !== "awaiting");
      if (others.length > 2) {
        const approved = others.filter((line) => line.approval?.state === "approved").length;
        toast(
          `${others.length} decisions were settled: ${approved} approved, ${others.length - approved} denied. The ledger says by whom.`,
          { seconds: 8 },
        );
      } else {
        for (const line of others) toast(settled(line), { seconds: 8 });
      }
      waiting = now;
      attribute(element, "data-many", lines.length > 4 ? "true" : null);
      // The one whose time ends first comes first.
      const order = [...lines].sort(
        (a, b) =>
          (a.approval?.until || Infinity) - (b.approval?.until || Infinity) ||
          b.decided - a.decided,
      );
      keyed(element, nodes, order.slice(0, 50), (line) => line.id, make, update);
      return lines.length;
    },
    tick() {
      for (const parts of nodes.values()) count(parts);
    },
  };
}
