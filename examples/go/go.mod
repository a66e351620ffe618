module tour

go 1.18
