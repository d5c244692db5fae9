/* CRC-32 and CRC-32C in native code. Of whole files: bulk-crc32c.ts. */
import type * as NodeRsCrc32 from '@node-rs/crc32';
import { loadCommonJs } from './load-commonjs.js';

export const { crc32, crc32c } = loadCommonJs('@node-rs/crc32') as typeof NodeRsCrc32;
