/* The walsender source keeps to the contract, against a scripted server that answers as PROTOCOL says. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { WalsenderReader } from '../../src/source/walsender-reader.js';
import { WalsenderSource } from '../../src/source/walsender-source.js';
import { sourceContract } from '../contract/source-contract.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { ScriptedCluster } from '../support/scripted-cluster.js';
import { ScriptedServer } from '../support/scripted-server.js';

sourceContract('a walsender source', async (t) => {
  const cluster = new ScriptedCluster(path.join(await temporaryDirectory(t), 'space'));
  cluster.files.set('./base/5/16500', { content: Buffer.alloc(32 * 1024 * 1024, 'large'), mode: 0o600 });
  const server = await ScriptedServer.listen(t, cluster.script());
  const settings = server.settings();
  const source = await WalsenderSource.open(
    settings,
    { applicationName: 'test', askPassword: undefined },
    (warning) => assert.fail(warning),
  );
  return {
    source,
    openReader: () => WalsenderReader.open(settings, { applicationName: 'test' }),
    contentOf: (file) => Promise.resolve(cluster.files.get(file.source)?.content ?? Buffer.alloc(0)),
    dropConnection: () => server.sessions[0]?.reset(),
  };
});
