/*
 * SEND_BACKUP_FILES: the files that the client names, as tar members in one COPY, in the order asked. This is where the
 * bytes of a backup pass: one read into a buffer, one look at its pages, one write from the same buffer.
 * Called by command-loop.ts. Source: SendBackupFiles of the patch, sendFile of src/backend/backup/basebackup.c.
 */
import { closeSync } from 'node:fs';
import { ConvoyError } from '../errors.js';
import { checksummedSegment, SegmentVerifier, verificationWarnings } from '../pgdata/page-verifier.js';
import type { SendBackupFiles } from '../replication/command.js';
import { commandComplete, copyDone, copyOutResponse, noticeResponse } from '../wire/backend-messages.js';
import type { CommandContext } from './command-context.js';
import { FileContent } from './file-content.js';
import { ServedFiles, type ServedFile } from './served-file.js';
import { PathRules, type ServedPath } from './served-path.js';
import { SELECT_TAG } from './start-backup.js';
import { TarOutput, type MemberFacts } from './tar-output.js';
import { listTablespaces } from './tablespaces.js';
import { TransferRate } from './transfer-rate.js';

export async function sendBackupFiles(command: SendBackupFiles, context: CommandContext): Promise<void> {
  const { channel, cluster } = context;
  if (command.paths !== undefined) {
    const rules = new PathRules(cluster, await listTablespaces(cluster.dataDirectory));
    const served = command.paths.map((asked) => rules.resolve(asked));
    await copyOut(served, command, context);
  }
  channel.send(commandComplete(SELECT_TAG));
}

async function copyOut(
  paths: readonly ServedPath[],
  command: SendBackupFiles,
  context: CommandContext,
): Promise<void> {
  const { channel, pageMemory } = context;
  const verifiesPages = await wantsVerification(command, context);
  channel.send(copyOutResponse());
  const ring = pageMemory.acquire();
  try {
    using tar = new TarOutput(channel);
    const content = new FileContent(ring, tar, new TransferRate(command.maxRateKilobytes), context);
    const sender = new FileSender(tar, content, verifiesPages ? command : undefined, context);
    for (const path of paths) {
      await sender.send(path);
      await channel.paced();
      context.signal.throwIfAborted();
    }
    channel.send(copyDone());
    sender.assertNoBadPages();
  } finally {
    ring.close();
  }
}

async function wantsVerification(command: SendBackupFiles, { access }: CommandContext): Promise<boolean> {
  if (command.noVerifyChecksums || command.startWalLocation === undefined) return false;
  return access.dataChecksums();
}

class FileSender {
  readonly #tar: TarOutput;
  readonly #content: FileContent;
  /** Undefined: pages are not verified. */
  readonly #verification: SendBackupFiles | undefined;
  readonly #context: CommandContext;
  readonly #files: ServedFiles;
  #badPageCount = 0;

  constructor(
    tar: TarOutput,
    content: FileContent,
    verification: SendBackupFiles | undefined,
    context: CommandContext,
  ) {
    this.#tar = tar;
    this.#content = content;
    this.#verification = verification;
    this.#context = context;
    this.#files = new ServedFiles(context.cluster.dataDirectory);
  }

  /** Sends one member, or nothing where the file has vanished. */
  async send(path: ServedPath): Promise<void> {
    const file = this.#files.open(path);
    switch (file?.kind) {
      case undefined:
        return;
      case 'directory':
        return this.#tar.directory({ ...factsOf(`${path.relative}/`, file), mode: file.mode });
      case 'link':
        return this.#tar.link(factsOf(`./${path.relative}/`, file), file.target);
      case 'file':
        try {
          this.#tar.beginFile(factsOf(path.relative, file), file.stats.size);
          await this.#sendContent(path, file.descriptor, file.stats.size);
          await this.#tar.endFile();
        } finally {
          closeSync(file.descriptor);
        }
    }
  }

  /** @throws ConvoyError XX001 once everything has been sent, as the patch does: the data is complete, the pages are bad */
  assertNoBadPages(): void {
    if (this.#badPageCount === 0) return;
    if (this.#badPageCount > 1) this.#warn(`${this.#badPageCount} total checksum verification failures`);
    const message = 'checksum verification failure during base backup';
    throw new ConvoyError('page_checksum', message, { sqlState: 'XX001' });
  }

  async #sendContent(path: ServedPath, descriptor: number, size: number): Promise<void> {
    const startLsn = this.#verification?.startWalLocation;
    const segment = startLsn === undefined ? undefined : checksummedSegment(path.asked);
    if (startLsn === undefined || segment === undefined) {
      await this.#content.send({ path: path.asked, descriptor, size });
      return;
    }
    const verifier = new SegmentVerifier(this.#content.memory, segment, startLsn);
    await this.#content.send({ path: path.asked, descriptor, size, verifier });
    const { verification } = verifier;
    this.#badPageCount += verification.badPageCount;
    for (const warning of verificationWarnings(path.asked, verification)) this.#warn(warning);
  }

  #warn(message: string): void {
    this.#context.log('WARNING', message);
    this.#context.channel.send(noticeResponse({ severity: 'WARNING', sqlState: '01000', message }));
  }
}

function factsOf(name: string, { stats }: ServedFile): MemberFacts {
  const { mode, uid, gid, mtimeMs } = stats;
  return { name, mode, uid, gid, mtimeMs };
}
