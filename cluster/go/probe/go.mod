module boyle.dev/cluster/probe

go 1.26
