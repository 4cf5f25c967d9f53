module boyle.dev/cluster/pause

go 1.26
