// What the browser keeps for us. Where it keeps nothing (blocked, or full), this tab still remembers.

function openStorage(name) {
  const here = new Map(); // what could not be kept
  const kept = () => { try { return window[name]; } catch { return null; } };
  const trying = (act, otherwise) => { try { return act(window[name]); } catch { return otherwise; } };
  return {
    get: (key) => here.get(key) ?? trying((storage) => storage.getItem(key), null),
    set(key, value) {
      here.delete(key);
      trying((storage) => storage.setItem(key, value));
      if (trying((storage) => storage.getItem(key), null) !== value) here.set(key, value);
    },
    remove(key) {
      here.delete(key);
      trying((storage) => storage.removeItem(key));
    },
    keys: () => [...new Set([...here.keys(), ...Object.keys(kept() ?? {})])],
  };
}

export const local = openStorage('localStorage');
export const session = openStorage('sessionStorage');

// The entries, each with its key, that are kept as JSON under names that begin so; what can not be read is not there.
export const keptUnder = (prefix) => local.keys().filter((name) => name.startsWith(prefix)).flatMap((name) => {
  try { return [JSON.parse(local.get(name))].filter((entry) => entry?.key); } catch { return []; }
});
