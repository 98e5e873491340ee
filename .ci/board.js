// The page's own reading of JSON: integers beyond JavaScript's numbers keep all their digits, and nothing else changes.
const page = require("fs").readFileSync(require("path").join(__dirname, "../src/board/index.html"), "utf8");
const parse = new Function(page.match(/function parse\(text\) \{[\s\S]*?\n\}/)[0] + "; return parse;")();
const cases = [
  ['{"n":9007199254740993,"m":[-9223372036854775808]}', { n: "9007199254740993", m: ["-9223372036854775808"] }],
  ['{"as_of":1700000000000,"d":-12.5e3,"e":1e20,"f":0.1234567890123456789}', { as_of: 1700000000000, d: -12500, e: 1e20, f: 0.12345678901234568 }],
  ['{"t":"x\\"9007199254740993","9007199254740993":"\\\\","u":"9007199254740993"}', { t: 'x"9007199254740993', "9007199254740993": "\\", u: "9007199254740993" }],
];
for (const [text, wanted] of cases) require("assert").deepStrictEqual(parse(text), wanted, text);
console.log(`the page reads ${cases.length} answers without loss`);
