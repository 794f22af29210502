"""What LaTeX would complain about, found without LaTeX."""

import re


def complaints(text):
    """Unbalanced environments, braces or dollars, rows of another number of cells, bare special characters."""
    found = [f"not ASCII: {c!r}" for c in sorted({c for c in text if ord(c) > 127})]
    bare = re.sub(r"\\[\\{}$&#%_]", "", text)  # without what is escaped, and without line ends
    stack = []
    for word, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if word == "begin":
            stack.append(name)
        elif not stack or stack.pop() != name:
            found.append(f"\\end{{{name}}} closes nothing")
    found += [f"\\begin{{{name}}} stays open" for name in stack]
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            break
    if depth:
        found.append("braces do not match")
    found += [f"dollars do not match: {line}" for line in bare.splitlines() if line.count("$") % 2]
    found += [f"bare {sign}: {line}" for line in bare.splitlines() for sign in "#%" if sign in line]
    outside = re.sub(r"\$[^$]*\$|\\(input|label|bibliography|usepackage)(\[[^]]*\])?\{[^{}]*\}", "", bare)
    found += [f"bare {sign} outside of mathematics: {line}" for line in outside.splitlines() for sign in "_^" if sign in line]
    for columns, body in re.findall(r"\\begin\{tabular\}\{([lrc]+)\}\n(.*?)\\end\{tabular\}", bare_rows(text), flags=re.DOTALL):
        rows = [line for line in body.splitlines() if line.endswith("END")]
        found += [f"{row.count('&') + 1} cells for {len(columns)} columns: {row}" for row in rows
                  if "multicolumn" not in row and row.count("&") + 1 != len(columns)]  # fmt: skip
    return found


def bare_rows(text):
    return re.sub(r"\\[{}$&#%_]", "", re.sub(r"\\\\$", "END", text, flags=re.MULTILINE))
