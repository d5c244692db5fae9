/* A pool of worker threads: piscina, as all three pools have it. */
import type * as PiscinaPackage from 'piscina';
import { loadCommonJs } from './load-commonjs.js';

export type ThreadPool<Task, Answer> = PiscinaPackage.Piscina<Task, Answer>;

export const { Piscina: ThreadPool } = loadCommonJs('piscina') as typeof PiscinaPackage;
