#!/bin/sh
# The assembler $PTXAS, verbose; what it says of each program is kept in the folder $PTXAS_NOTES.
note=$(mktemp "$PTXAS_NOTES/XXXXXX")
"$PTXAS" "$@" -v 2>"$note"
status=$?
cat "$note" >&2
exit $status
