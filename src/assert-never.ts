/* Ends every switch over a union: the compiler refuses a union that grew, the run time refuses a value outside it. */
export function assertNever(value: never): never {
  throw new TypeError(`value outside its union: ${JSON.stringify(value)}`);
}
