# -O3: at -O2 gcc does not vectorise loops over any number of bytes.
CXXFLAGS ?= -O3 -Wall -Wextra
PLUGIN = lib@NAME@.so

$(PLUGIN): @NAME@.cpp resay_plugin.h
	$(CXX) -std=c++17 $(CXXFLAGS) -shared -fPIC -fvisibility=hidden -o $@ @NAME@.cpp $(LDFLAGS)

check: $(PLUGIN)
	resay plugin check ./$(PLUGIN)

clean:
	rm -f $(PLUGIN)

.PHONY: check clean
