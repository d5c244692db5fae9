/*
 * The layers of DESIGN, section 4: reads the import lines of src and workers and fails on an arrow that the table
 * there does not allow, and on printing, exiting or reading the environment outside the command line.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

/** Folders that a folder may import from; `types:` allows `import type` only. The top level is open to all. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  top: [],
  wire: [],
  replication: [],
  pgdata: [],
  manifest: [],
  // beyond the table: the tar format, which COPY streams and archives share
  tar: [],
  source: ['wire', 'replication', 'pgdata', 'tar'],
  target: ['pgdata', 'types:manifest', 'tar'],
  // beyond the table: streams WAL while the files are copied, and knows no backup
  wal: ['wire', 'pgdata'],
  plan: ['types:pgdata'],
  copy: ['plan', 'source', 'target', 'manifest'],
  // beyond the table: it writes backup_label, pg_control and WAL itself, with the workers' own way of writing a file
  coordinator: ['plan', 'source', 'target', 'manifest', 'copy', 'pgdata', 'wal'],
  // beyond the table: reads WAL records, of files and of archives, and knows no backup
  'wal-check': ['pgdata'],
  verify: ['manifest', 'pgdata', 'target', 'tar', 'wal-check'],
  restore: ['manifest', 'pgdata', 'target', 'wal-check'],
  server: ['wire', 'replication', 'pgdata', 'manifest', 'tar'],
  cli: [
    'replication',
    'pgdata',
    'manifest',
    'source',
    'target',
    'plan',
    'copy',
    'coordinator',
    'types:wal',
    'verify',
    'restore',
    'server',
    'demo',
  ],
  // the demonstration drives everything as a user would; it is not in the table
  demo: ['wire', 'replication', 'pgdata', 'manifest', 'source', 'target', 'coordinator', 'server'],
  workers: ['copy', 'server', 'restore', 'verify'],
};

const PACKAGE_HOMES: readonly (readonly [name: RegExp, folders: readonly string[]])[] = [
  [/^pg(-protocol)?(\/|$)/, ['wire']],
  [/^commander$/, ['cli']],
  [/^(?:node:)?(?:process|console)$/, ['cli']],
];

const RESERVED: readonly (readonly [name: string, pattern: RegExp, folders: readonly string[]])[] = [
  ['console', /\bconsole\s*\./, ['cli']],
  // a process of `serve` of its own ends itself
  ['process.exit', /\bprocess\s*\.\s*exit(?:Code)?\b/, ['cli', 'workers/session-process.ts']],
  // embedded servers are given an environment without this process's PG* variables
  ['process.env', /\bprocess\s*\.\s*env\b/, ['cli', 'demo']],
];

/** What is reachable by its name from outside; the only barrel. */
const PUBLIC_API = 'index.ts';

interface Import {
  readonly specifier: string;
  readonly typesOnly: boolean;
}

const IMPORT = /^[ \t]*(?:import|export)\b([^'";]*?\bfrom\s*)?\s*["']([^"']+)["']/gm;
const DYNAMIC_IMPORT = /\b(?:import|require|loadCommonJs)\s*\(\s*["'`]([^"'`]+)["'`]/g;

function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/(^|\s)\/\/.*$/gm, '$1');
}

function importsOf(text: string): Import[] {
  const found = [...text.matchAll(IMPORT)].map(([, clause = '', specifier = '']) => {
    const names = /\{([\s\S]*)\}/.exec(clause)?.[1];
    const everyNameIsType =
      names?.split(',').every((name) => name.trim() === '' || /^\s*type\s/.test(name)) === true;
    return { specifier, typesOnly: /^\s*type\b/.test(clause) || (everyNameIsType && !/^\s*\w/.test(clause)) };
  });
  const dynamic = [...text.matchAll(DYNAMIC_IMPORT)].map(([, specifier = '']) => ({
    specifier,
    typesOnly: false,
  }));
  return [...found, ...dynamic];
}

/** "wire" for wire/frames.ts, "top" for errors.ts. */
function folderOf(file: string): string {
  return file.includes('/') ? (file.split('/', 1)[0] ?? '') : 'top';
}

/** @param files texts by path: relative to src, or workers/... */
function violations(files: ReadonlyMap<string, string>): string[] {
  return [...files].flatMap(([file, text]) => {
    const code = withoutComments(text);
    const wrongImports = importsOf(code).map((imported) => whyWrong(file, imported));
    const reserved = RESERVED.filter(
      ([, pattern, homes]) => pattern.test(code) && !homes.includes(folderOf(file)) && !homes.includes(file),
    ).map(([name]) => `${file} uses ${name}`);
    return [...wrongImports.filter((reason) => reason !== undefined), ...reserved];
  });
}

function whyWrong(file: string, { specifier, typesOnly }: Import): string | undefined {
  const folder = folderOf(file);
  if (!specifier.startsWith('.')) {
    const homes = PACKAGE_HOMES.find(([name]) => name.test(specifier))?.[1];
    return homes === undefined || homes.includes(folder)
      ? undefined
      : `${file} imports package "${specifier}"`;
  }
  const place = folder === 'workers' ? file : `src/${file}`;
  const target = path.posix.join(path.posix.dirname(place), specifier).replace(/\.js$/, '.ts');
  const arrow = `${file} -> ${target.replace(/^src\//, '')}`;
  if (!target.startsWith('src/'))
    return folder === 'workers' && target.startsWith('workers/') ? undefined : arrow;
  const imported = target.slice('src/'.length);
  if (imported === PUBLIC_API) return arrow;
  if (file === PUBLIC_API) return undefined;
  const to = folderOf(imported);
  const allowed = MAY_IMPORT[folder] ?? [];
  if (to === 'top' || to === folder || allowed.includes(to)) return undefined;
  return typesOnly && allowed.includes(`types:${to}`) ? undefined : arrow;
}

function readSources(): Map<string, string> {
  const root = fileURLToPath(new URL('../../', import.meta.url));
  const files = new Map<string, string>();
  for (const [folder, prefix] of [
    ['src', ''],
    ['workers', 'workers/'],
  ] as const) {
    for (const name of readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })) {
      // AssemblyScript, built on its own
      if (!name.endsWith('.ts') || name.includes('/assembly/')) continue;
      files.set(prefix + name, readFileSync(path.join(root, folder, name), 'utf8'));
    }
  }
  return files;
}

test('every import in src and workers is an arrow that the design allows', () => {
  const files = readSources();
  assert.ok(files.size > 50, 'the sources were found');
  assert.ok(importsOf(files.get('coordinator/backup-run.ts') ?? '').length > 10, 'imports were found');
  assert.deepEqual(violations(files), []);
});

test('every folder of src stands in the table', () => {
  const files = readSources();
  const folders = new Set([...files.keys()].map(folderOf));
  assert.deepEqual(
    [...folders].filter((folder) => MAY_IMPORT[folder] === undefined),
    [],
  );
});

const PLANTED: readonly (readonly [file: string, line: string, found: string])[] = [
  ['source/a.ts', `import { planTasks } from '../plan/plan.js';`, 'source/a.ts -> plan/plan.ts'],
  ['server/a.ts', `import type { FileList } from '../source/source.js';`, 'server/a.ts -> source/source.ts'],
  ['wire/a.ts', `import { b } from '../replication/command.js';`, 'wire/a.ts -> replication/command.ts'],
  ['errors.ts', `import { b } from './wire/frames.js';`, 'errors.ts -> wire/frames.ts'],
  ['cli/a.ts', `import type { B } from '../wire/conninfo.js';`, 'cli/a.ts -> wire/conninfo.ts'],
  [
    'target/a.ts',
    `import { MANIFEST_PATH } from '../manifest/manifest.js';`,
    'target/a.ts -> manifest/manifest.ts',
  ],
  [
    'target/a.ts',
    `import {\n  type A,\n  b,\n} from '../manifest/manifest.js';`,
    'target/a.ts -> manifest/manifest.ts',
  ],
  ['plan/a.ts', `export { walk } from '../pgdata/walk.js';`, 'plan/a.ts -> pgdata/walk.ts'],
  [
    'coordinator/a.ts',
    `import { open } from '../wire/connection.js';`,
    'coordinator/a.ts -> wire/connection.ts',
  ],
  ['copy/a.ts', `const worker = await import('../../workers/copy.js');`, 'copy/a.ts -> workers/copy.ts'],
  ['cli/a.ts', `import '../../workers/copy.js';`, 'cli/a.ts -> workers/copy.ts'],
  ['coordinator/a.ts', `import { ConvoyError } from '../index.js';`, 'coordinator/a.ts -> index.ts'],
  [
    'workers/copy.ts',
    `import { backup } from '../src/coordinator/backup.js';`,
    'workers/copy.ts -> coordinator/backup.ts',
  ],
  [
    'copy/a.ts',
    `import { setup } from '../../test/support/postgres.js';`,
    'copy/a.ts -> test/support/postgres.ts',
  ],
  ['server/a.ts', `import pg from 'pg';`, 'server/a.ts imports package "pg"'],
  ['server/b.ts', `const pg = loadCommonJs('pg');`, 'server/b.ts imports package "pg"'],
  ['source/a.ts', `import { serialize } from 'pg-protocol';`, 'source/a.ts imports package "pg-protocol"'],
  [
    'source/a.ts',
    `import { x } from 'pg-protocol/dist/parser.js';`,
    'source/a.ts imports package "pg-protocol/dist/parser.js"',
  ],
  [
    'coordinator/a.ts',
    `import { Command } from 'commander';`,
    'coordinator/a.ts imports package "commander"',
  ],
  ['copy/a.ts', `import { env } from 'node:process';`, 'copy/a.ts imports package "node:process"'],
  ['copy/a.ts', `  console.error('x');`, 'copy/a.ts uses console'],
  ['server/a.ts', `process.exitCode = 1;`, 'server/a.ts uses process.exit'],
  ['workers/copy.ts', `process.exit(1);`, 'workers/copy.ts uses process.exit'],
  ['wire/a.ts', `const user = process.env['PGUSER'];`, 'wire/a.ts uses process.env'],
];

for (const [file, line, found] of PLANTED) {
  test(`a planted violation is found: ${found}`, () => {
    assert.deepEqual(violations(new Map([[file, `/* a file */\n${line}\n`]])), [found]);
  });
}

const INNOCENT: readonly (readonly [file: string, text: string])[] = [
  ['target/a.ts', `import type { ManifestFile } from '../manifest/manifest.js';`],
  ['target/a.ts', `import { type A, type B } from '../manifest/manifest.js';`],
  ['copy/a.ts', `// import { x } from '../coordinator/backup.js';\n/* process.env, console.log() */`],
  ['copy/a.ts', `import { a } from './b.js';\nimport { ConvoyError } from '../errors.js';`],
  ['wire/a.ts', `import pg from 'pg';\nimport { serialize } from 'pg-protocol';`],
  ['index.ts', `export { backup } from './coordinator/backup.js';`],
  ['cli/a.ts', `import { Command } from 'commander';\nprocess.exitCode = console.log(process.env);`],
];

for (const [file, text] of INNOCENT) {
  test(`nothing is found in ${file}: ${text.replaceAll('\n', ' ')}`, () => {
    assert.deepEqual(violations(new Map([[file, text]])), []);
  });
}
