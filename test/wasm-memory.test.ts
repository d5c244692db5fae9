import assert from 'node:assert/strict';
import { test } from 'node:test';
import { run } from './support/tools.js';

test('where the address space is limited, the error says so', async () => {
  const script = `
    import { PageMemory } from '${new URL('../src/pgdata/page-checksum.js', import.meta.url).href}';
    import { Lz4Compressor } from '${new URL('../src/target/compression/lz4.js', import.meta.url).href}';
    for (const open of [() => PageMemory.create({ bufferCount: 1, bufferBytes: 8192 }), () => new Lz4Compressor()]) {
      const opened = [];
      try {
        while (opened.length < 10) opened.push(open());
      } catch (error) {
        console.log(error.code, error.message, error.hint);
      }
    }`;
  // KiB; Node.js itself has a few GiB
  const limited = [
    '-c',
    'ulimit -v 30000000 && exec "$@"',
    'sh',
    process.execPath,
    '--input-type=module',
    '-e',
  ];
  const { stdout, stderr } = await run('/bin/sh', [...limited, script]);
  const expected =
    /^memory_refused could not reserve memory for WebAssembly it asks for 10 GB .*"ulimit -v".*$/gm;
  assert.equal(stdout.match(expected)?.length, 2, stdout + stderr);
});
