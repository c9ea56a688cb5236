/** The NBD protocol, both ends: server and client. */
export { describeExports, type ExportDescription } from './client/describe.ts';
export { type NbdConnection, type NbdInfo, type OpenNbdOptions, openNbd } from './client/device.ts';
export { formatNbdUri, isNbdUri, type NbdAddress, type NbdTarget, parseNbdUri } from './client/uri.ts';
export { loadTls, type TlsWish } from './client/uri-tls.ts';
export {
  allocationDepth,
  baseAllocation,
  type DirtyRuns,
  dirtyBitmap,
  type MetaContext,
  type StatusRun,
} from './server/contexts.ts';
export type { Export } from './server/export.ts';
export {
  type ListenAddress,
  type ListenOptions,
  listen,
  type NbdServer,
  type ServerAddress,
} from './server/listen.ts';
export type { ClientReport, ExportFigures, ServerObserver } from './server/observer.ts';
export type { ClientTls, PskCredentials, ServerTls, X509Credentials } from './tls/credentials.ts';
export { readCertificateFolder, readKeyFile, readKeyFolder } from './tls/folder.ts';
export { parsePriority, type TlsPolicy } from './tls/priority.ts';
