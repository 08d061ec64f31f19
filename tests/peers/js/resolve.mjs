// The packages are written for bundlers: what Node refuses as an ES module's address (a folder, a
// file without its ending) is found as a bundler finds it.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const REFUSED = new Set(['ERR_UNSUPPORTED_DIR_IMPORT', 'ERR_MODULE_NOT_FOUND']);

export async function resolve(specifier, context, next) {
  try {
    return await next(specifier, context);
  } catch (error) {
    if (!context.parentURL || !REFUSED.has(error.code)) throw error;
    const path = createRequire(context.parentURL).resolve(specifier);
    return next(pathToFileURL(path).href, context);
  }
}
