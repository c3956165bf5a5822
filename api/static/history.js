// What the service lists, as far as it is loaded: without a hole from the newest job down to the cursor.
import * as service from './service.js';

const PAGE = 48;
const PAGES_OF_NEWER = 5; // after more than that was made elsewhere the list begins anew, and goes on with older ones

// `onOlder` and `onNewer` take jobs, newest first; `onAnew` is called before them where the list begins anew, with the ids of
// those that were drawn here since it was asked for; `onGone` with the ids of jobs that were deleted elsewhere.
export function openHistory({ onOlder, onNewer, onAnew, onGone }) {
  const listed = new Map(); // id -> when it was made
  const drawnHere = new Map(); // of those that came into this tab by themselves: they join nothing, but may be gone
  let cursor = null, isBegun = false;
  let turn = Promise.resolve(); // one load after another: both move the cursor
  let older = null; // the load of older ones that is under way: a second press is no further wish
  let next = null; // a load of newer ones that has not begun: it will see what comes until then

  function inTurn(load) {
    const mine = turn.then(load);
    turn = mine.catch(() => {});
    return mine;
  }

  const note = (jobs) => { for (const job of jobs) listed.set(job.id, job.created_at); };

  async function loadOlder() {
    if (isBegun && cursor === null) return undefined; // there are no older ones
    const answer = await service.history(cursor, PAGE);
    [cursor, isBegun] = [answer.next_cursor, true];
    note(answer.data);
    onOlder(answer.data);
    return answer.data.at(-1);
  }

  async function loadNewer() {
    const found = [], asked = new Set([...listed.keys(), ...drawnHere.keys()]); // what comes after is not in the answer
    let at = null, isJoined = false;
    for (let page = 0; page < PAGES_OF_NEWER && !isJoined && (page === 0 || at); page += 1) {
      const answer = await service.history(at, PAGE);
      found.push(...answer.data);
      at = answer.next_cursor;
      isJoined = answer.data.some((job) => listed.has(job.id));
    }
    join(found, { isJoined, at, asked });
  }

  function join(found, { isJoined, at, asked }) {
    if (!isJoined) cursor = at;
    if (isJoined || at === null) {
      onGone(goneFrom(found, at, asked));
    } else {
      listed.clear();
      for (const id of asked) drawnHere.delete(id);
      onAnew(new Set(drawnHere.keys()));
    }
    note(found);
    onNewer(found);
  }

  // Those of `asked` that are not among all the jobs since the oldest of `found`.
  function goneFrom(found, at, asked) {
    const [there, oldest] = [new Set(found.map((job) => job.id)), found.at(-1)?.created_at ?? 0];
    const gone = [...listed, ...drawnHere].filter(([id, madeAt]) => asked.has(id) && !there.has(id) && (at === null || madeAt > oldest)).map(([id]) => id);
    for (const id of gone) for (const kept of [listed, drawnHere]) kept.delete(id);
    return gone;
  }

  return {
    noteDrawn(jobs) { for (const job of jobs) drawnHere.set(job.id, job.created_at); },
    hasOlder: () => cursor !== null,
    loadOlder() {
      if (older) return older;
      const mine = inTurn(loadOlder).finally(() => { if (older === mine) older = null; });
      older = mine;
      return mine;
    },
    loadNewer() {
      next ??= inTurn(() => { next = null; return isBegun ? loadNewer() : undefined; });
      return next;
    },
    reset() { listed.clear(); drawnHere.clear(); [cursor, isBegun, turn, next, older] = [null, false, Promise.resolve(), null, null]; },
  };
}
