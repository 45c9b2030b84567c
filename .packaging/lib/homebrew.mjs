// A Homebrew formula, for a tap.

import { createHash } from "node:crypto";
import { releaseUrl } from "./archive.mjs";

const PLACES = [
  ["macos", "arm", ["aarch64-apple-darwin"]],
  ["macos", "intel", ["x86_64-apple-darwin"]],
  ["linux", "arm", ["aarch64-unknown-linux-musl", "aarch64-unknown-linux-gnu"]],
  ["linux", "intel", ["x86_64-unknown-linux-musl", "x86_64-unknown-linux-gnu"]],
];

export function formula(release, archives) {
  const { crate } = release;
  const blocks = ["macos", "linux"].map((system) => {
    const inner = PLACES.filter(([place]) => place === system).flatMap(([, cpu, targets]) => {
      const archive = targets.map((target) => archives.find((each) => each.target === target)).find(Boolean);
      if (!archive) return [];
      const sha256 = createHash("sha256").update(archive.bytes).digest("hex");
      return `    on_${cpu} do
      url "${releaseUrl(release, archive.file)}"
      sha256 "${sha256}"
    end
`;
    });
    return inner.length ? `  on_${system} do\n${inner.join("")}  end\n` : "";
  });
  return `class McpRemote < Formula
  desc "${crate.description.replace(/^Connects/, "Connect")}"
  homepage "${crate.homepage}"
  version "${crate.version}"
  license "${crate.license}"

${blocks.filter(Boolean).join("\n")}
  def install
    bin.install "mcp-remote"
    bin.install_symlink "mcp-remote" => "mcp-remote-client"
    generate_completions_from_executable(bin/"mcp-remote", "completions")
    (man1/"mcp-remote.1").write Utils.safe_popen_read(bin/"mcp-remote", "man")
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/mcp-remote --version")
    assert_match "mcp-remote-client #{version}", shell_output("#{bin}/mcp-remote-client --version")
  end
end
`;
}
