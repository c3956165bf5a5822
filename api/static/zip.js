// A ZIP of pictures made in the browser. PNGs are compressed already, so they are stored as they are.
import * as service from './service.js';
import { say } from './words.js';

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k += 1) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n >>> 0;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

function fields(...pairs) {
  const bytes = new Uint8Array(pairs.reduce((sum, [size]) => sum + size, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [size, value] of pairs) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return bytes;
}

export function zip(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { name, bytes } of files) {
    const text = new TextEncoder().encode(name);
    const common = [[2, 20], [2, 0x0800], [2, 0], [2, 0], [2, 0x21], [4, crc32(bytes)], [4, bytes.length], [4, bytes.length], [2, text.length], [2, 0]];
    const head = fields([4, 0x04034b50], ...common);
    parts.push(head, text, bytes);
    directory.push(fields([4, 0x02014b50], [2, 20], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]), text);
    offset += head.length + text.length + bytes.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = fields([4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, size], [4, offset], [2, 0]);
  return new Blob([...parts, ...directory, end], { type: 'application/zip' });
}

function save(files) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(zip(files));
  link.download = 'zimg-pictures.zip';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// Saves what can be had of these jobs' pictures; answers the others, with the problem of each: [{ job, problem }].
export async function saveAsZip(jobs, onNext) {
  const files = [], missing = [];
  for (const [index, job] of jobs.entries()) {
    onNext(index + 1);
    try {
      files.push({ name: `zimg-${job.seed}-${job.id.slice(0, 8)}.png`, bytes: await service.patiently(() => service.picture(job.id)) });
    } catch (problem) {
      if (!(problem instanceof service.Problem)) throw problem;
      missing.push({ job, problem });
    }
  }
  if (files.length) save(files);
  return missing;
}

export const isGone = ({ status }) => status === 404 || status === 410;
const why = (problem) => (isGone(problem) ? say('whyGone') : problem.status ? problem.message.replace(/[.。]$/, '') : say('whyNoAnswer'));

// How many are missing of those asked for, and why; each reason with its number where there are several.
export function tellMissing(missing, asked) {
  const counts = new Map();
  for (const reason of missing.map(({ problem }) => why(problem))) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  const each = [...counts].map(([reason, n]) => (counts.size === 1 ? reason : say('whySome', { n, why: reason })));
  return say(missing.length === asked ? 'zipNone' : 'zipMissing', { n: missing.length, why: each.join(say('listJoin')) });
}
