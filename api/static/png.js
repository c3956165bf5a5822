// What a zimg PNG says of itself: its text chunks, and its size from the header.
const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const BYTES_READ = 256 * 1024; // the text stands before the pixels

function textOf(kind, data) {
  const end = data.indexOf(0);
  const name = new TextDecoder('latin1').decode(data.subarray(0, end));
  if (kind === 'tEXt') return [name, new TextDecoder('latin1').decode(data.subarray(end + 1))];
  if (data[end + 1] !== 0) return [name, '']; // compressed: not ours
  let at = end + 3;
  for (let skipped = 0; skipped < 2; skipped += 1) at = data.indexOf(0, at) + 1; // language, translated name
  return [name, new TextDecoder().decode(data.subarray(at))];
}

// { prompt, seed, size, preset, model, revision, variation }, '' for what it does not say; or null for a file that is not a picture of ours.
export async function readParameters(file) {
  const bytes = new Uint8Array(await file.slice(0, BYTES_READ).arrayBuffer());
  if (!SIGNATURE.every((byte, index) => bytes[index] === byte)) return null;
  const view = new DataView(bytes.buffer);
  const texts = {};
  let size = '';
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (kind === 'IDAT' || at + 8 + length > bytes.length) break;
    const data = bytes.subarray(at + 8, at + 8 + length);
    if (kind === 'IHDR') size = `${view.getUint32(at + 8)}x${view.getUint32(at + 12)}`;
    if (kind === 'tEXt' || kind === 'iTXt') { const [name, text] = textOf(kind, data); texts[name] = text; }
    at += 12 + length;
  }
  const seed = Number(texts.seed);
  if (!texts.prompt || !Number.isInteger(seed) || texts.seed === '') return null;
  const [, model, revision] = /^(.*?)(?:@(.*))?$/s.exec(texts.model ?? '');
  return { prompt: texts.prompt, seed, size, preset: texts.preset ?? '', model, revision: revision ?? '', variation: texts.variation ?? '' };
}
