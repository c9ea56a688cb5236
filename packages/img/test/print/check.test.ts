import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkJson, checkText } from '../../src/print/check.ts';
import { formatJson } from '../../src/print/json.ts';

const none = {
  corruptions: 0,
  leaks: 0,
  checkErrors: 0,
  imageEndOffset: 0,
  totalClusters: 0,
  allocatedClusters: 0,
  fragmentedClusters: 0,
  compressedClusters: 0,
};

test('a sound image is said to be sound, with its share of clusters', () => {
  const counts = { ...none, totalClusters: 32, allocatedClusters: 1, imageEndOffset: 393216 };
  assert.equal(
    checkText(counts),
    'No errors were found on the image.\n1/32 = 3.12% allocated, 0.00% fragmented, 0.00% compressed clusters\nImage end offset: 393216\n',
  );
});

test('nothing is divided by zero clusters', () => {
  assert.equal(
    checkText({ ...none, totalClusters: 16, imageEndOffset: 262144 }),
    'No errors were found on the image.\nImage end offset: 262144\n',
  );
});

test('damage, leaks and failures of the check are each a paragraph', () => {
  const text = checkText({ ...none, corruptions: 2, leaks: 3, checkErrors: 1 });
  assert.equal(
    text,
    '\n2 errors were found on the image.\nData may be corrupted, or further writes to the image may corrupt it.\n' +
      '\n3 leaked clusters were found on the image.\nThis means waste of disk space, but no harm to data.\n' +
      '\n1 internal errors have occurred during the check.\n',
  );
});

test('the JSON report leaves out every count of 0 but the errors of the check', () => {
  const text = formatJson(checkJson('a', 'qcow2', { ...none, leaks: 1, imageEndOffset: 327680 }));
  // As qemu-img 7.2.22 prints it.
  assert.equal(
    text,
    '{\n    "image-end-offset": 327680,\n    "check-errors": 0,\n    "leaks": 1,\n    "filename": "a",\n    "format": "qcow2"\n}\n',
  );
});
