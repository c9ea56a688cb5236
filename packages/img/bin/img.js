#!/usr/bin/env node
// The program `img`: the bundled command on this process's words and streams.
'use strict';

const { load } = require('./load.js');

const { main, processTerminal } = load().exports;
main(process.argv.slice(2), processTerminal).then((status) => {
  process.exitCode = status;
});
