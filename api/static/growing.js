// A list, newest first: its first ones are asked for again now and then, older ones on request.

const MOST = 100; // of one call

// The fresh first ones, and behind them what is known of older ones; null where they do not meet.
function joined(fresh, known) {
  const places = new Map(known.map((one, at) => [one.id, at]));
  const last = fresh.findLast((one) => places.has(one.id));
  if (!last) return null;
  const ids = new Set(fresh.map((one) => one.id));
  return [...fresh, ...known.slice(places.get(last.id) + 1).filter((one) => !ids.has(one.id))];
}

// `ask` gives { data, next_cursor }, of so many from a cursor on, or from the first.
export function openGrowing(ask, atOnce) {
  let items = [], cursor = null;
  let reads = 0; // what is asked for anew makes an answer that is on its way worth nothing
  let growth = null; // the load of older ones that is under way

  function dropAnswers() {
    reads += 1;
    growth = null;
  }

  async function grow() {
    const mine = ++reads;
    const list = await ask(atOnce, cursor);
    if (mine === reads) [items, cursor] = [[...items, ...list.data], list.next_cursor];
  }

  function take(list, limit, isAnew) {
    const all = !isAnew && items.length > limit && list.next_cursor !== null ? joined(list.data, items) : null;
    if (all) items = all; // the cursor is that of the last one still
    else [items, cursor] = [list.data, list.next_cursor];
  }

  return {
    items: () => items,
    hasMore: () => cursor !== null,
    dropAnswers,
    // `isAnew`: it is another list from now on. An older one that was asked for is waited for, and not undone.
    async refresh(isAnew = false) {
      while (growth && !isAnew) await growth.catch(() => {});
      const mine = ++reads;
      const limit = isAnew ? atOnce : Math.max(atOnce, Math.min(MOST, items.length));
      const list = await ask(limit, null);
      if (mine === reads) take(list, limit, isAnew);
    },
    more() {
      if (growth) return growth;
      const mine = grow().finally(() => { if (growth === mine) growth = null; });
      growth = mine;
      return mine;
    },
    clear() {
      dropAnswers();
      [items, cursor] = [[], null];
    },
  };
}
