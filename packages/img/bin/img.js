#!/usr/bin/env node
// The program `img`, from its bundle.
'use strict';

const { load } = require('./load.js');

load().exports.runProgram();
