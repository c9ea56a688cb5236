/** QMP, the protocol that steers a running QEMU, both ends: server and client. */
export { connectQmp, type QmpAddress, type QmpClient, type QmpEvent } from './client.ts';
export { command, commandOf, type QmpCommand } from './command.ts';
export { formatMessage, isObject, type Json, type JsonObject } from './json.ts';
export { QmpError, type QmpErrorClass, refusal } from './qmp-error.ts';
export {
  anything,
  choice,
  either,
  type Fields,
  flag,
  integer,
  isText,
  list,
  nothing,
  type Optional,
  optional,
  type Read,
  readArguments,
  record,
  type Schema,
  size,
  text,
  uint32,
  union,
} from './schema.ts';
export { listenQmp, type QmpServer, type QmpServerOptions, type QmpVersion } from './server.ts';
