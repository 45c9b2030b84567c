// Makes the picture of the README from what `mcp-remote client` prints: text on stdin, SVG on stdout.
//
//   mcp-remote client URL | node .github/demo-svg.mjs 'mcp-remote client URL' > .github/demo.svg

import { readFileSync } from 'node:fs'

const COLUMNS = 96
const CHARACTER = 8.43 // width of one, in pixels, at 14 px in most monospaced fonts
const LINE = 20
const MARGIN = 20
const COLORS = { ok: '#55cb94', warn: '#e5c07b', FAIL: '#ff8b8e', info: '#7aa2f7', skip: '#8b949e' }

const escaped = (text) => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;')
const cut = (text) => (text.length > COLUMNS ? `${text.slice(0, COLUMNS - 1)}…` : text)

const typed = process.argv[2] ?? 'mcp-remote client https://example.com/mcp'
const lines = [`$ ${typed}`, ...readFileSync(0, 'utf8').trimEnd().split('\n')].map(cut)
const width = Math.round(COLUMNS * CHARACTER + 2 * MARGIN)
const height = lines.length * LINE + 2 * MARGIN

const row = (line, index) => {
  const y = MARGIN + (index + 1) * LINE - 5
  const [, outcome] = /^(ok|warn|FAIL|info|skip) /.exec(line) ?? []
  const rest = outcome ? line.slice(outcome.length) : line
  const begin = outcome ? `<tspan fill="${COLORS[outcome]}" font-weight="bold">${outcome}</tspan>` : ''
  const fill = index === 0 ? ' fill="#ffffff" font-weight="bold"' : ''
  return `<text x="${MARGIN}" y="${y}"${fill} xml:space="preserve">${begin}${escaped(rest)}</text>`
}

console.log(`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">
<title>${escaped(typed)}</title>
<rect width="100%" height="100%" rx="8" fill="#16191e"/>
<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="14" fill="#d4d8de">
${lines.map(row).join('\n')}
</g>
</svg>`)
