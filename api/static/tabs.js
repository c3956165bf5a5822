// What one tab of this browser did, told to the others that show the same account, so that none of them has to keep asking.
import * as service from './service.js';

const tabs = (() => { try { return new BroadcastChannel('zimg.history'); } catch { return null; /* no storage: each tab for itself */ } })();

// The ids of what is gone for good; none: something was made, or so much is gone that one has to look.
export const tellTabs = (gone = []) => tabs?.postMessage({ owner: service.shownFor(), gone });

export function watchTabs({ onGone, onChange }) {
  tabs?.addEventListener('message', ({ data: { owner, gone } }) => {
    if (owner === null || owner !== service.shownFor()) return;
    if (gone.length) gone.forEach(onGone);
    else onChange();
  });
}
