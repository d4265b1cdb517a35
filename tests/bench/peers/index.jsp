<%@ page contentType="text/plain" trimDirectiveWhitespaces="true" %><%
  HttpSession visitor = request.getSession(true);
  Object stored = visitor.getAttribute("a00");
  long number = stored == null ? 1 : Long.parseLong((String) stored) + 1;
  if (stored == null) {
    for (int other = 1; other < 13; other++) {
      visitor.setAttribute(String.format("a%02d", other), "vvvvvvvvvvvvvvvvvvvv");
    }
  }
  String digits = Long.toString(number);
  visitor.setAttribute("a00", "00000000000000000000".substring(digits.length()) + digits);
%><%= number %>
