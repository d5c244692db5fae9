/* Whose a file is on the server, in numbers: what a tar header says of it, besides names that are the same for all. */
export interface FileOwner {
  readonly uid: number;
  readonly gid: number;
}
