/** A manifest is what was written or it is refused: nothing in it leads out of its folder or takes more than it may. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { formatManifest, type Manifest, numberOfManifest, parseManifest } from '../src/manifest.ts';

const digest = 'ab'.repeat(32);

const manifest: Manifest = {
  number: 2,
  size: 1 << 30,
  parent: { number: 1, sha256: digest },
  source: 'nbd://host/a name',
  checkpoint: 'backup.2.01234567.89abcdef',
  bitmaps: ['backup.1.76543210.89abcdef'],
  frozen: true,
  time: '2026-11-23T03:10:11.123Z',
  file: { length: 12_345, sha256: digest, modified: '1795404716055363883' },
};

type Fields = Record<string, unknown>;

/** The manifest as somebody else would write it who knows the sum. */
function forged(change: (fields: Fields) => void): string {
  const { sum: _, ...fields } = JSON.parse(formatManifest(manifest)) as Fields;
  change(fields);
  return JSON.stringify({
    ...fields,
    sum: createHash('sha256').update(JSON.stringify(fields)).digest('hex'),
  });
}

test('a manifest reads back as it was', () => {
  assert.deepEqual(parseManifest(formatManifest(manifest), 2), manifest);
  const full: Manifest = {
    ...manifest,
    parent: undefined,
    bitmaps: [],
    checkpoint: undefined,
    frozen: false,
  };
  assert.deepEqual(parseManifest(formatManifest(full), 2), full);
  assert.deepEqual(
    parseManifest(
      forged(() => undefined),
      2,
    ),
    manifest,
  );
});

test('a field that was changed by hand is noticed', () => {
  const text = formatManifest(manifest);
  for (const [from, to] of [
    ['1073741824', '2147483648'],
    ['backup.1.', 'backup.3.'],
    ['"frozen": true', '"frozen": false'],
    ['12345', '12346'],
  ] as const) {
    assert.ok(text.includes(from));
    assert.throws(() => parseManifest(text.replace(from, to), 2), /changed after it was written/);
  }
});

test('hostile fields are refused, each with its reason', () => {
  const layer = (fields: Fields): Fields => fields['layer'] as Fields;
  const source = (fields: Fields): Fields => fields['source'] as Fields;
  const parent = (fields: Fields): Fields => fields['parent'] as Fields;
  const rows: readonly (readonly [(fields: Fields) => void, string, RegExp])[] = [
    [
      (f) => {
        layer(f)['name'] = '../../etc/passwd';
      },
      'corrupt',
      /'layer\.name'/,
    ],
    [
      (f) => {
        layer(f)['name'] = '/etc/passwd';
      },
      'corrupt',
      /'layer\.name'/,
    ],
    [
      (f) => {
        layer(f)['name'] = '0003.qcow2';
      },
      'corrupt',
      /'layer\.name'/,
    ],
    [
      (f) => {
        layer(f)['format'] = 'raw';
      },
      'corrupt',
      /'layer\.format'/,
    ],
    [
      (f) => {
        layer(f)['length'] = 2 ** 60;
      },
      'corrupt',
      /'layer\.length'/,
    ],
    [
      (f) => {
        layer(f)['length'] = -1;
      },
      'corrupt',
      /'layer\.length'/,
    ],
    [
      (f) => {
        layer(f)['sha256'] = 'zz';
      },
      'corrupt',
      /'layer\.sha256'/,
    ],
    [
      (f) => {
        layer(f)['modified'] = '9'.repeat(1000);
      },
      'corrupt',
      /'layer\.modified'/,
    ],
    [
      (f) => {
        parent(f)['layer'] = '../0001.qcow2';
      },
      'corrupt',
      /'parent\.layer'/,
    ],
    [
      (f) => {
        parent(f)['layer'] = '0001.qcow2/x';
      },
      'corrupt',
      /'parent\.layer'/,
    ],
    [
      (f) => {
        parent(f)['layer'] = '0002.qcow2';
      },
      'corrupt',
      /not an earlier one/,
    ],
    [
      (f) => {
        parent(f)['layer'] = '999999999.qcow2';
      },
      'corrupt',
      /not an earlier one/,
    ],
    [
      (f) => {
        parent(f)['layer'] = '00001.qcow2';
      },
      'corrupt',
      /not the name of a layer/,
    ],
    [
      (f) => {
        f['parent'] = [1];
      },
      'corrupt',
      /'parent' is not an object/,
    ],
    [
      (f) => {
        f['parent'] = null;
      },
      'corrupt',
      /does not go with 'parent'/,
    ],
    [
      (f) => {
        f['bitmaps'] = Array(1001).fill('x');
      },
      'corrupt',
      /'bitmaps'/,
    ],
    [
      (f) => {
        f['bitmaps'] = [{}];
      },
      'corrupt',
      /'bitmaps'/,
    ],
    [
      (f) => {
        f['bitmaps'] = [];
      },
      'corrupt',
      /does not go with 'parent'/,
    ],
    [
      (f) => {
        source(f)['size'] = 1e300;
      },
      'corrupt',
      /'source\.size'/,
    ],
    [
      (f) => {
        source(f)['size'] = 1.5;
      },
      'corrupt',
      /'source\.size'/,
    ],
    [
      (f) => {
        source(f)['name'] = 'x'.repeat(5000);
      },
      'corrupt',
      /'source\.name'/,
    ],
    [
      (f) => {
        f['checkpoint'] = '';
      },
      'corrupt',
      /'checkpoint'/,
    ],
    [
      (f) => {
        f['number'] = 3;
      },
      'corrupt',
      /not that of the file/,
    ],
    [
      (f) => {
        f['time'] = 'yesterday';
      },
      'corrupt',
      /'time'/,
    ],
    [
      (f) => {
        f['frozen'] = 1;
      },
      'corrupt',
      /'frozen'/,
    ],
    [
      (f) => {
        f['strata-backup'] = 2;
      },
      'not-supported',
      /version 2/,
    ],
    [
      (f) => {
        delete f['strata-backup'];
      },
      'corrupt',
      /'strata-backup'/,
    ],
  ];
  for (const [change, code, words] of rows) {
    assert.throws(
      () => parseManifest(forged(change), 2),
      (error) => {
        assert.ok(isDiskError(error), String(error));
        assert.deepEqual([error.code, words.test(error.message)], [code, true], error.message);
        return true;
      },
    );
  }
});

test('what is no manifest at all is refused, and what is too long is not parsed', () => {
  for (const text of ['', '[]', 'null', '"x"', '{', '{"strata-backup":1}', `${'['.repeat(100_000)}`])
    assert.throws(
      () => parseManifest(text, 1),
      (error) => isDiskError(error, 'corrupt'),
      text.slice(0, 20),
    );
  assert.throws(
    () => parseManifest(' '.repeat(300_000), 1),
    (error) => isDiskError(error, 'limit'),
  );
});

test('only names that we give are names of manifests', () => {
  assert.deepEqual(
    [
      '0001.json',
      '12345.json',
      '0000.json',
      '1.json',
      '00001.json',
      '.0001.json',
      '0001.json.new',
      '0001.qcow2',
    ].map(numberOfManifest),
    [1, 12_345, undefined, undefined, undefined, undefined, undefined, undefined],
  );
});
