/* A COPY's tar stream read with tar-stream's own extractor, which does not know how `serve` writes it. */
import { extract, type Header } from 'tar-stream';

export interface TarMember {
  readonly header: Header;
  readonly content: Buffer;
}

/** All members; the end-of-archive blocks that PostgreSQL's streams lack are added. */
export async function tarMembers(bytes: Buffer): Promise<TarMember[]> {
  const extractor = extract();
  const members: TarMember[] = [];
  const finished = new Promise<void>((resolve, reject) => {
    extractor.on('entry', (header, stream, next) => {
      const chunks: Buffer[] = [];
      stream.on('data', (chunk) => chunks.push(chunk as Buffer));
      stream.on('end', () => {
        members.push({ header, content: Buffer.concat(chunks) });
        next();
      });
    });
    extractor.on('finish', resolve);
    extractor.on('error', reject);
  });
  extractor.end(Buffer.concat([bytes, Buffer.alloc(1024)]));
  await finished;
  return members;
}
