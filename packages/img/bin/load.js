// Loads the bundled command, with the code that V8 made of it when it was bundled (scripts/bundle.mjs).
//
// Compiling is a good part of the time that a small answer takes. V8 refuses a cache of another version or of
// other flags by itself, and then compiles as usual.
'use strict';

const { readFileSync } = require('node:fs');
const { join } = require('node:path');
const { Script } = require('node:vm');

const bundle = join(__dirname, '../dist/img.cjs');
const cache = `${bundle}.cache`;

// esbuild writes ASCII, and V8 takes one byte a character faster than it decodes UTF-8.
/** The bundle's exports, and its script, of which a cache can be made. */
function load() {
  const source = `(function (exports, require, module) {${readFileSync(bundle, 'latin1')}\n})`;
  const cachedData = readIfThere(cache);
  const script = new Script(source, { filename: bundle, ...(cachedData && { cachedData }) });
  const module = { exports: {} };
  script.runInThisContext()(module.exports, require, module);
  return { exports: module.exports, script };
}

function readIfThere(path) {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

module.exports = { cache, load };
