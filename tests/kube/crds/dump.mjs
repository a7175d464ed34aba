// Writes the JSON schemas of custom resources: `node dump.mjs FOLDER [MODULES]`, one file <group>_<version>_<kind>.json each.
//
// The packages of @kubernetes-models are made from the operators' own Go types and CRDs, and carry them as TypeScript
// declarations. Here these are read as a syntax tree. What comes out is strict: a key that isn't declared is an error,
// as it is for an API server with strict field validation. Declarations know types, required keys and enumerations, but
// no patterns and no bounds: those are for other checks.

import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const folder = process.argv[2];
if (!folder) {
  console.error("usage: node dump.mjs FOLDER [MODULES]");
  process.exit(2);
}
const modules = resolve(process.argv[3] ?? join(dirname(fileURLToPath(import.meta.url)), "node_modules"));
const scope = join(modules, "@kubernetes-models");
const ts = createRequire(join(modules, "x.js"))("typescript");
const K = ts.SyntaxKind;

const parsed = new Map();

function parse(file) {
  let found = parsed.get(file);
  if (!found) {
    const source = ts.createSourceFile(file, readFileSync(file, "utf8"), ts.ScriptTarget.Latest);
    found = { file, declared: new Map(), imported: new Map(), alias: new Map() };
    for (const node of source.statements) {
      if (ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node)) found.declared.set(node.name.text, node);
      if (ts.isExportDeclaration(node) && node.exportClause && ts.isNamedExports(node.exportClause)) {
        for (const e of node.exportClause.elements) found.alias.set(e.name.text, (e.propertyName ?? e.name).text);
      }
      const names = ts.isImportDeclaration(node) && node.importClause?.namedBindings;
      if (names && ts.isNamedImports(names)) {
        for (const e of names.elements) {
          found.imported.set(e.name.text, [node.moduleSpecifier.text, (e.propertyName ?? e.name).text]);
        }
      }
    }
    parsed.set(file, found);
  }
  return found;
}

function locate(from, specifier) {
  const base = specifier.startsWith(".") ? resolve(dirname(from), specifier) : join(modules, specifier);
  const file = base.replace(/\.js$/, "") + ".d.ts";
  return existsSync(file) ? file : join(base, "index.d.ts");
}

class Schema {
  constructor() {
    this.defs = {};
  }

  named(unit, name) {
    if (name === "TypeMeta") return { properties: {} }; // its two keys are declared again, as constants
    const declared = unit.declared.get(unit.alias.get(name) ?? name);
    if (!declared) {
      const from = unit.imported.get(name);
      if (!from) throw new Error(`${unit.file}: where does ${name} come from?`);
      return this.named(parse(locate(unit.file, from[0])), from[1]);
    }
    const key = `${relative(scope, unit.file).replace(/\.d\.ts$/, "").replaceAll("/", ".")}.${declared.name.text}`;
    if (!(key in this.defs)) {
      this.defs[key] = {}; // a type may contain itself
      this.defs[key] = ts.isInterfaceDeclaration(declared) ? this.face(unit, declared) : this.type(unit, declared.type);
    }
    return { $ref: `#/$defs/${key}` };
  }

  face(unit, node) {
    const out = this.members(unit, node.members);
    for (const clause of node.heritageClauses ?? []) {
      for (const type of clause.types) {
        const base = this.named(unit, type.expression.text);
        const { properties, required = [] } = base.$ref ? this.defs[base.$ref.slice("#/$defs/".length)] : base;
        out.properties = { ...properties, ...out.properties };
        out.required = [...(out.required ?? []), ...required];
      }
    }
    return out;
  }

  members(unit, members) {
    if (!members.length) return {}; // nothing is known: JSON of any form
    const out = { type: "object" };
    const properties = {};
    const required = [];
    for (const member of members) {
      if (ts.isIndexSignatureDeclaration(member)) {
        out.additionalProperties = this.type(unit, member.type);
      } else {
        properties[member.name.text] = this.type(unit, member.type);
        if (!member.questionToken) required.push(member.name.text);
      }
    }
    if (Object.keys(properties).length) out.properties = properties;
    if (required.length) out.required = required;
    out.additionalProperties ??= false;
    return out;
  }

  type(unit, node) {
    switch (node.kind) {
      case K.StringKeyword:
        return { type: "string" };
      case K.NumberKeyword:
        return { type: "number" };
      case K.BooleanKeyword:
        return { type: "boolean" };
      case K.AnyKeyword:
      case K.UnknownKeyword:
        return {};
      case K.ObjectKeyword:
        return { type: "object" };
      case K.LiteralType:
        if (node.literal.kind === K.NullKeyword) return { type: "null" };
        if (node.literal.kind === K.TrueKeyword || node.literal.kind === K.FalseKeyword) return { type: "boolean" };
        return { const: ts.isNumericLiteral(node.literal) ? Number(node.literal.text) : node.literal.text };
      case K.ArrayType:
        return { type: "array", items: this.type(unit, node.elementType) };
      case K.ParenthesizedType:
        return this.type(unit, node.type);
      case K.TypeLiteral:
        return this.members(unit, node.members);
      case K.UnionType:
        return { anyOf: node.types.map((one) => this.type(unit, one)) };
      case K.IntersectionType:
        // `A & (Exclude<A, …> | …)`: which of A's keys go together. The first part has the keys themselves.
        return this.type(unit, node.types[0]);
      case K.TypeReference:
        if (node.typeName.text === "Array") return { type: "array", items: this.type(unit, node.typeArguments[0]) };
        return this.named(unit, node.typeName.text);
      default:
        throw new Error(`${unit.file}: ${K[node.kind]} is not known here`);
    }
  }
}

function constant(node, name) {
  const member = node.members.find((one) => one.name?.text === name && one.type?.kind === K.LiteralType);
  return member?.type.literal.text;
}

function* declarations(at) {
  for (const entry of readdirSync(at, { withFileTypes: true })) {
    if (entry.isDirectory()) {
      if (entry.name !== "node_modules" && entry.name !== "_schemas") yield* declarations(join(at, entry.name));
    } else if (entry.name.endsWith(".d.ts") && !entry.name.startsWith("index.")) yield join(at, entry.name);
  }
}

mkdirSync(folder, { recursive: true });
const wanted = Object.keys(JSON.parse(readFileSync(new URL("package.json", import.meta.url), "utf8")).dependencies);
let written = 0;
for (const name of wanted.filter((one) => one.startsWith("@kubernetes-models/"))) {
  for (const file of declarations(join(modules, name))) {
    const unit = parse(file);
    for (const node of unit.declared.values()) {
      if (!ts.isInterfaceDeclaration(node)) continue;
      const [apiVersion, kind] = [constant(node, "apiVersion"), constant(node, "kind")];
      if (!apiVersion || !kind || kind.endsWith("List")) continue;
      const schema = new Schema();
      const top = schema.named(unit, node.name.text);
      const out = { $schema: "https://json-schema.org/draft/2020-12/schema", ...top, $defs: schema.defs };
      writeFileSync(join(folder, `${apiVersion.replace("/", "_")}_${kind}.json`), JSON.stringify(out));
      written += 1;
    }
  }
}
console.log(`${written} schemas in ${folder}`);
