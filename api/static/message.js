// What is said under the prompt or in a form: in the page's language, and no longer than it is true.

// Words come as a function, so that they can be said again in another language.
export function openMessage(place) {
  let words = null;
  let isOfService = false; // that it does not answer, or can not: over with its next answer, whatever is written meanwhile

  function show() {
    const text = words ? words() : '';
    if (place.textContent !== text) place.textContent = text;
  }

  function set(what, isOf) {
    [words, isOfService] = [what, isOf];
    show();
  }

  const clear = () => set(null, false);

  return {
    show, clear,
    ofPrompt: (what) => set(what, false),
    ofService: (what) => set(what, true),
    written() { if (!isOfService) clear(); },
    answered() { if (isOfService) clear(); },
  };
}
